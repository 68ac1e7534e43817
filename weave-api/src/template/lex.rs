//! A template as a row of pieces: text, and the tokens of each action.

use super::error::ParseError;

/// Between actions, or in one.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Piece {
    Text(String),
    /// The tokens between `{{` and `}}`, and the line it starts in.
    Action(Vec<Token>, usize),
}

/// A token of an action.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    /// `.` with the names after it: none for the dot alone.
    Field(Vec<String>),
    /// `$` with the names after it.
    Root(Vec<String>),
    Word(String),
    String(String),
    Number(serde_json::Number),
    Pipe,
    Open,
    /// `)` with the names after it.
    Close(Vec<String>),
}

pub(super) fn lex(text: &str) -> Result<Vec<Piece>, ParseError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut line = 1;
    let mut trim_next = false;
    while let Some((before, after)) = rest.split_once("{{") {
        line += newlines(before);
        // `{{-` with a blank after it eats the blanks before the action.
        let trims = |text: &str| text.starts_with('-') && text[1..].starts_with(is_blank);
        let (body, trim_before) = if trims(after) { (&after[1..], true) } else { (after, false) };
        push_text(&mut pieces, before, trim_next, trim_before);
        let (action, length) = match comment(body, line)? {
            Some(length) => (None, length),
            None => {
                let (tokens, length) = action(body, line)?;
                (Some(tokens), length)
            }
        };
        let consumed = &body[..length];
        trim_next = consumed.ends_with(" -}}") || consumed.ends_with("\n-}}");
        pieces.extend(action.map(|tokens| Piece::Action(tokens, line)));
        line += newlines(consumed);
        rest = &body[length..];
    }
    push_text(&mut pieces, rest, trim_next, false);
    Ok(pieces)
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn push_text(pieces: &mut Vec<Piece>, mut text: &str, trim_start: bool, trim_end: bool) {
    if trim_start {
        text = text.trim_start_matches(is_blank);
    }
    if trim_end {
        text = text.trim_end_matches(is_blank);
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// The length of a comment action, its end included.
fn comment(body: &str, line: usize) -> Result<Option<usize>, ParseError> {
    let start = body.trim_start_matches(is_blank);
    if !start.starts_with("/*") {
        return Ok(None);
    }
    let unclosed = || ParseError::new(line, "unclosed comment");
    let (_, after) = start.split_once("*/").ok_or_else(unclosed)?;
    let end = after.trim_start_matches(is_blank);
    let rest = end.strip_prefix("-}}").or_else(|| end.strip_prefix("}}")).ok_or_else(unclosed)?;
    Ok(Some(body.len() - rest.len()))
}

/// The tokens of an action, and its length with its end.
fn action(body: &str, line: usize) -> Result<(Vec<Token>, usize), ParseError> {
    let error = |text: &str| ParseError::new(line, text);
    let mut tokens = Vec::new();
    let mut rest = body;
    loop {
        let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
        rest = &rest[blanks..];
        let end = if blanks > 0 { rest.strip_prefix("-}}") } else { None };
        if let Some(after) = end.or_else(|| rest.strip_prefix("}}")) {
            return Ok((tokens, body.len() - after.len()));
        }
        let Some(first) = rest.chars().next() else {
            return Err(error("unclosed action"));
        };
        let after = &rest[first.len_utf8()..];
        match first {
            '.' if !after.starts_with(|c: char| c.is_ascii_digit()) => {
                let (names, after) = names(rest);
                let after = if names.is_empty() { &rest[1..] } else { after };
                tokens.push(Token::Field(names));
                rest = after;
            }
            '$' => {
                if after.starts_with(is_name) {
                    return Err(error("variables are not supported"));
                }
                let (names, after) = names(after);
                tokens.push(Token::Root(names));
                rest = after;
            }
            '|' => {
                tokens.push(Token::Pipe);
                rest = after;
            }
            '(' => {
                tokens.push(Token::Open);
                rest = after;
            }
            ')' => {
                let (names, after) = names(after);
                tokens.push(Token::Close(names));
                rest = after;
            }
            '"' => {
                let (text, after) = quoted(after).ok_or_else(|| error("unterminated string"))?;
                tokens.push(Token::String(text));
                rest = after;
            }
            '`' => {
                let (text, after) =
                    after.split_once('`').ok_or_else(|| error("unterminated string"))?;
                tokens.push(Token::String(text.to_owned()));
                rest = after;
            }
            '0'..='9' | '-' | '+' => {
                let length = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')))
                    .unwrap_or(rest.len());
                let (number, after) = rest.split_at(length);
                let parsed = number.trim_start_matches('+').parse();
                let bad = |_| error(&format!("bad number {number:?}"));
                tokens.push(Token::Number(parsed.map_err(bad)?));
                rest = after;
            }
            first if is_name(first) => {
                let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                let (word, after) = rest.split_at(length);
                tokens.push(Token::Word(word.to_owned()));
                rest = after;
            }
            other => return Err(error(&format!("unexpected {other:?}"))),
        }
    }
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// `.One.Two` at the start of the text, and what follows.
fn names(mut text: &str) -> (Vec<String>, &str) {
    let mut names = Vec::new();
    while let Some(after) = text.strip_prefix('.') {
        let length = after.find(|c| !is_name(c)).unwrap_or(after.len());
        if length == 0 {
            break;
        }
        let (name, after) = after.split_at(length);
        names.push(name.to_owned());
        text = after;
    }
    (names, text)
}

/// The text up to the closing quote, with escapes resolved, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut result = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((result, characters.as_str())),
            '\n' => return None,
            '\\' => result.push(match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                same @ ('"' | '\\' | '\'') => same,
                _ => return None,
            }),
            other => result.push(other),
        }
    }
}
