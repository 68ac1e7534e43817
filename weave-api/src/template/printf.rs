//! Values as Go prints them: alone, and with `printf`.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

use super::error::RunError;
use crate::json::compact;

/// The widest field and the most digits after the point.
const MAX_WIDTH: usize = 1024;

/// As `{{…}}` and `%v` print it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(list) => {
            let elements: Vec<_> = list.iter().map(shown).collect();
            format!("[{}]", elements.join(" "))
        }
        Value::Object(map) => {
            let fields: Vec<_> = map.iter().map(|(key, v)| format!("{key}:{}", shown(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

pub(super) fn printf(format: &str, values: &[Value]) -> Result<String, RunError> {
    let mut output = String::new();
    let mut values = values.iter();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            output.push(character);
            continue;
        }
        let field = Field::read(&mut characters)?;
        let Some(verb) = characters.next() else {
            output.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            output.push('%');
            continue;
        }
        match values.next() {
            Some(value) => field.push(&mut output, verb, value),
            None => output.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    for value in values {
        output.push_str(&format!("%!(EXTRA {}={})", kind(value), shown(value)));
    }
    Ok(output)
}

/// Flags, width and precision.
#[derive(Default)]
struct Field {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

impl Field {
    fn read(characters: &mut Peekable<Chars<'_>>) -> Result<Self, RunError> {
        let mut field = Self::default();
        while let Some(flag) = characters.next_if(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
            match flag {
                '-' => field.left = true,
                '0' => field.zero = true,
                '+' => field.plus = true,
                _ => {}
            }
        }
        field.width = number(characters)?;
        if characters.next_if_eq(&'.').is_some() {
            field.precision = Some(number(characters)?);
        }
        Ok(field)
    }

    fn push(&self, output: &mut String, verb: char, value: &Value) {
        let wrong = || format!("%!{verb}({}={})", kind(value), shown(value));
        let cut = |text: String| match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text,
        };
        let sign = |text: String| {
            if self.plus && !text.starts_with('-') { format!("+{text}") } else { text }
        };
        let text = match (verb, value) {
            ('v', value) => shown(value),
            ('s', Value::String(text)) => cut(text.clone()),
            ('s', Value::Array(_) | Value::Object(_)) => shown(value),
            ('q', Value::String(text)) => compact(&cut(text.clone())).unwrap_or_else(|_| wrong()),
            ('d', Value::Number(number)) if !number.is_f64() => sign(number.to_string()),
            ('x', Value::Number(number)) => match number.as_u64() {
                Some(number) => format!("{number:x}"),
                None => wrong(),
            },
            ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('t', Value::Bool(on)) => on.to_string(),
            ('f', Value::Number(number)) if number.is_f64() => {
                let precision = self.precision.unwrap_or(6);
                sign(format!("{:.precision$}", number.as_f64().unwrap_or_default()))
            }
            _ => wrong(),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zero) {
            (true, _) => {
                output.push_str(&text);
                output.extend(std::iter::repeat_n(' ', missing));
            }
            (false, true) => {
                let (sign, digits) = match text.strip_prefix(['-', '+']) {
                    Some(digits) => text.split_at(text.len() - digits.len()),
                    None => ("", text.as_str()),
                };
                output.push_str(sign);
                output.extend(std::iter::repeat_n('0', missing));
                output.push_str(digits);
            }
            (false, false) => {
                output.extend(std::iter::repeat_n(' ', missing));
                output.push_str(&text);
            }
        }
    }
}

fn number(characters: &mut Peekable<Chars<'_>>) -> Result<usize, RunError> {
    let mut number = 0;
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        number = number * 10 + usize::try_from(digit.to_digit(10).unwrap_or(0)).unwrap_or(0);
        if number > MAX_WIDTH {
            return Err(RunError(format!("printf: width above {MAX_WIDTH}")));
        }
    }
    Ok(number)
}

/// What a value is in Go.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
