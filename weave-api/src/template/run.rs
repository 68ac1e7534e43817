//! A tree and a report make a text.

use serde_json::Value;

use super::error::RunError;
use super::parse::{Block, Command, Function, Node, Operand, Pipeline, same_number};
use super::printf::{printf, shown};
use crate::json::compact;

/// The longest result, in bytes.
const MAX_OUTPUT: usize = 16 << 20;
/// How many nodes are visited at most.
const MAX_STEPS: usize = 1_000_000;

pub(super) fn run(nodes: &[Node], root: &Value) -> Result<String, RunError> {
    let mut run = Run { root, output: String::new(), steps: 0 };
    run.nodes(nodes, root)?;
    Ok(run.output)
}

struct Run<'a> {
    root: &'a Value,
    output: String,
    steps: usize,
}

fn error<T>(text: impl Into<String>) -> Result<T, RunError> {
    Err(RunError(text.into()))
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), RunError> {
        for node in nodes {
            self.step()?;
            match node {
                Node::Text(text) => self.print(text)?,
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    self.print(&shown(&value))?;
                }
                Node::Block { kind, subject, body, otherwise } => {
                    let subject = self.pipeline(subject, dot)?;
                    match kind {
                        Block::If if is_true(&subject) => self.nodes(body, dot)?,
                        Block::With if is_true(&subject) => self.nodes(body, &subject)?,
                        Block::If | Block::With => self.nodes(otherwise, dot)?,
                        Block::Range => self.range(&subject, body, otherwise, dot)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        subject: &Value,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), RunError> {
        let elements: Vec<&Value> = match subject {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            Value::Null => Vec::new(),
            other => return error(format!("range can't iterate over {}", kind(other))),
        };
        if elements.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for element in elements {
            self.step()?;
            self.nodes(body, element)?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), RunError> {
        self.steps += 1;
        if self.steps > MAX_STEPS { error("too many steps") } else { Ok(()) }
    }

    fn print(&mut self, text: &str) -> Result<(), RunError> {
        if self.output.len() + text.len() > MAX_OUTPUT {
            return error("too much output");
        }
        self.output.push_str(text);
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, RunError> {
        let mut result = None;
        for command in pipeline {
            self.step()?;
            result = Some(match command {
                Command::Value(operand) => self.operand(operand, dot)?,
                Command::Call(function, operands) => {
                    let mut arguments = Vec::with_capacity(operands.len() + 1);
                    for operand in operands {
                        arguments.push(self.operand(operand, dot)?);
                    }
                    arguments.extend(result);
                    call(*function, arguments)?
                }
            });
        }
        Ok(result.unwrap_or_default())
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, RunError> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Field(names) => field(dot, names).cloned(),
            Operand::Root(names) => field(self.root, names).cloned(),
            Operand::Group(pipeline, names) => {
                let value = self.pipeline(pipeline, dot)?;
                field(&value, names).cloned()
            }
        }
    }
}

fn field<'a>(value: &'a Value, names: &[String]) -> Result<&'a Value, RunError> {
    let mut value = value;
    for name in names {
        value = match value {
            Value::Object(map) => match map.get(name) {
                Some(value) => value,
                None => return error(format!("can't evaluate field {name}")),
            },
            other => return error(format!("{} has no field {name}", kind(other))),
        };
    }
    Ok(value)
}

fn call(function: Function, arguments: Vec<Value>) -> Result<Value, RunError> {
    let wrong = |name| error(format!("wrong number of arguments for {name}"));
    match (function, arguments.as_slice()) {
        (Function::Json, [value]) => match compact(value) {
            Ok(text) => Ok(Value::String(text)),
            Err(cause) => error(cause.to_string()),
        },
        (Function::Json, _) => wrong("json"),
        (Function::Len, [value]) => {
            let length = match value {
                Value::String(text) => text.len(),
                Value::Array(list) => list.len(),
                Value::Object(map) => map.len(),
                Value::Null => 0,
                other => return error(format!("len of {}", kind(other))),
            };
            Ok(Value::from(length))
        }
        (Function::Len, _) => wrong("len"),
        (Function::Eq, [first, others @ ..]) if !others.is_empty() => {
            Ok(Value::Bool(others.iter().any(|other| equal(first, other))))
        }
        (Function::Eq, _) => wrong("eq"),
        (Function::Ne, [a, b]) => Ok(Value::Bool(!equal(a, b))),
        (Function::Ne, _) => wrong("ne"),
        (Function::Not, [value]) => Ok(Value::Bool(!is_true(value))),
        (Function::Not, _) => wrong("not"),
        (Function::And, values) => match values.iter().find(|v| !is_true(v)).or(values.last()) {
            Some(value) => Ok(value.clone()),
            None => wrong("and"),
        },
        (Function::Or, values) => match values.iter().find(|v| is_true(v)).or(values.last()) {
            Some(value) => Ok(value.clone()),
            None => wrong("or"),
        },
        (Function::Print, values) => Ok(Value::String(values.iter().map(shown).collect())),
        (Function::Println, values) => {
            let texts: Vec<_> = values.iter().map(shown).collect();
            Ok(Value::String(texts.join(" ") + "\n"))
        }
        (Function::Printf, [Value::String(format), values @ ..]) => {
            printf(format, values).map(Value::String)
        }
        (Function::Printf, _) => error("printf needs a format"),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (a, b) => a == b,
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// What a value is, for error texts.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
