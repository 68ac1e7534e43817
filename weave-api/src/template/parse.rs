//! From tokens to a tree.

use serde_json::{Number, Value};

use super::error::ParseError;
use super::lex::{Piece, Token, lex};

/// The longest template, in bytes.
const MAX_LENGTH: usize = 64 * 1024;
/// How deep actions and parentheses nest.
const MAX_DEPTH: usize = 64;

/// A part of a template.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    Block { kind: Block, subject: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// What a block does with its subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Block {
    If,
    With,
    Range,
}

impl Block {
    const fn word(self) -> &'static str {
        match self {
            Self::If => "if",
            Self::With => "with",
            Self::Range => "range",
        }
    }
}

/// Commands, each of which gets the result of the one before as its last argument.
pub(super) type Pipeline = Vec<Command>;

/// A value, or a function with arguments.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Command {
    Value(Operand),
    Call(Function, Vec<Operand>),
}

/// Something that has a value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Operand {
    /// A field of the dot.
    Field(Vec<String>),
    /// A field of the report.
    Root(Vec<String>),
    Literal(Value),
    /// In parentheses, and a field of it.
    Group(Pipeline, Vec<String>),
}

/// The functions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Function {
    And,
    Eq,
    Json,
    Len,
    Ne,
    Not,
    Or,
    Print,
    Printf,
    Println,
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "and" => Self::And,
            "eq" => Self::Eq,
            "json" => Self::Json,
            "len" => Self::Len,
            "ne" => Self::Ne,
            "not" => Self::Not,
            "or" => Self::Or,
            "print" => Self::Print,
            "printf" => Self::Printf,
            "println" => Self::Println,
            _ => return None,
        })
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, ParseError> {
    if text.len() > MAX_LENGTH {
        return Err(ParseError::new(1, format!("template longer than {MAX_LENGTH} bytes")));
    }
    let mut parser = Parser { pieces: lex(text)?.into_iter() };
    match parser.nodes(0)? {
        (nodes, None) => Ok(nodes),
        (_, Some(end)) => Err(ParseError::new(end.line, format!("unexpected {}", end.name()))),
    }
}

/// What ends a list of nodes before the template does.
struct End {
    /// `{{else}}` with the tokens after it; `None` for `{{end}}`.
    otherwise: Option<Vec<Token>>,
    line: usize,
}

impl End {
    const fn name(&self) -> &'static str {
        if self.otherwise.is_some() { "{{else}}" } else { "{{end}}" }
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
}

impl Parser {
    fn nodes(&mut self, depth: usize) -> Result<(Vec<Node>, Option<End>), ParseError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (mut tokens, line) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, line) => (tokens, line),
            };
            let word = match tokens.first() {
                Some(Token::Word(word)) => word.as_str(),
                _ => "",
            };
            let kind = match word {
                "if" => Block::If,
                "with" => Block::With,
                "range" => Block::Range,
                "end" => return Ok((nodes, Some(End { otherwise: None, line }))),
                "else" => {
                    tokens.remove(0);
                    return Ok((nodes, Some(End { otherwise: Some(tokens), line })));
                }
                _ => {
                    nodes.push(Node::Print(pipeline(tokens, line)?));
                    continue;
                }
            };
            tokens.remove(0);
            nodes.push(self.block(kind, tokens, line, depth + 1)?);
        }
        Ok((nodes, None))
    }

    fn block(
        &mut self,
        kind: Block,
        subject: Vec<Token>,
        line: usize,
        depth: usize,
    ) -> Result<Node, ParseError> {
        if depth > MAX_DEPTH {
            return Err(ParseError::new(line, "nested too deeply"));
        }
        let unclosed =
            || ParseError::new(line, format!("{{{{{}}}}} without {{{{end}}}}", kind.word()));
        let subject = pipeline(subject, line)?;
        let (body, end) = self.nodes(depth)?;
        let end = end.ok_or_else(unclosed)?;
        let otherwise = match end.otherwise {
            None => Vec::new(),
            Some(tokens) if tokens.is_empty() => match self.nodes(depth)? {
                (_, None) => return Err(unclosed()),
                (nodes, Some(End { otherwise: None, .. })) => nodes,
                (_, Some(End { line, .. })) => {
                    return Err(ParseError::new(line, "unexpected {{else}}"));
                }
            },
            // `{{else if …}}` shares the end of its block.
            Some(mut tokens) => {
                let kind = match tokens.remove(0) {
                    Token::Word(word) if word == "if" => Block::If,
                    Token::Word(word) if word == "with" => Block::With,
                    _ => return Err(ParseError::new(end.line, "unexpected words after else")),
                };
                vec![self.block(kind, tokens, end.line, depth + 1)?]
            }
        };
        Ok(Node::Block { kind, subject, body, otherwise })
    }
}

fn pipeline(tokens: Vec<Token>, line: usize) -> Result<Pipeline, ParseError> {
    let mut tokens = tokens.into_iter();
    match commands(&mut tokens, line, 0)? {
        (commands, None) => Ok(commands),
        (_, Some(_)) => Err(ParseError::new(line, "unexpected right parenthesis")),
    }
}

/// The commands up to the end or a closing parenthesis, and the names after the latter.
fn commands(
    tokens: &mut std::vec::IntoIter<Token>,
    line: usize,
    depth: usize,
) -> Result<(Pipeline, Option<Vec<String>>), ParseError> {
    let error = |text: &str| ParseError::new(line, text);
    if depth > MAX_DEPTH {
        return Err(error("nested too deeply"));
    }
    let mut pipeline = Vec::new();
    let mut function = None;
    let mut operands = Vec::new();
    let closed = loop {
        let operand = match tokens.next() {
            None => break None,
            Some(Token::Close(names)) => break Some(names),
            Some(Token::Pipe) => {
                let operands = std::mem::take(&mut operands);
                pipeline.push(command(function.take(), operands, &pipeline, line)?);
                continue;
            }
            Some(Token::Field(names)) => Operand::Field(names),
            Some(Token::Root(names)) => Operand::Root(names),
            Some(Token::String(text)) => Operand::Literal(Value::String(text)),
            Some(Token::Number(number)) => Operand::Literal(Value::Number(number)),
            Some(Token::Open) => match commands(tokens, line, depth + 1)? {
                (group, Some(names)) => Operand::Group(group, names),
                (_, None) => return Err(error("unclosed parenthesis")),
            },
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Operand::Literal(Value::Bool(true)),
                "false" => Operand::Literal(Value::Bool(false)),
                "nil" => Operand::Literal(Value::Null),
                name => {
                    let Some(named) = Function::named(name) else {
                        return Err(error(&format!("function {name:?} not defined")));
                    };
                    if function.is_some() || !operands.is_empty() {
                        // Go calls a function without arguments here; all of ours need some.
                        return Err(error(&format!("missing parentheses around {name}")));
                    }
                    function = Some(named);
                    continue;
                }
            },
        };
        operands.push(operand);
    };
    pipeline.push(command(function, operands, &pipeline, line)?);
    Ok((pipeline, closed))
}

fn command(
    function: Option<Function>,
    mut operands: Vec<Operand>,
    before: &[Command],
    line: usize,
) -> Result<Command, ParseError> {
    if let Some(function) = function {
        return Ok(Command::Call(function, operands));
    }
    match (operands.pop(), operands.is_empty() && before.is_empty()) {
        (None, _) => Err(ParseError::new(line, "missing value")),
        (Some(value), true) => Ok(Command::Value(value)),
        (Some(_), false) => Err(ParseError::new(line, "only a function takes arguments")),
    }
}

/// So that numbers of templates and reports compare equal if they are.
pub(super) fn same_number(a: &Number, b: &Number) -> bool {
    a == b || (a.as_f64().is_some() && a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()))
}
