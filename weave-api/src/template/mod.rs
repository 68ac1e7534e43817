//! The part of Go's text/template that reports are formatted with (spec cli-http.md, section 7):
//! fields, `json`, `len`, `range`, `if`, `with`, `eq`, `ne`, `not`, `and`, `or`, `print`,
//! `printf`, literals, pipes and trimmed blanks. No variables, no definitions.
//!
//! ```text
//!   text ──lex──► pieces ──parse──► nodes ──run(report)──► text
//! ```
//!
//! A template comes from whoever can ask for a report, so that its length, its nesting, the
//! steps it takes and what it prints are bounded.

mod error;
mod lex;
mod parse;
mod printf;
mod run;

use serde_json::Value;

pub use error::{ParseError, RunError};

use parse::Node;

/// A template that makes sense.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<Node>,
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { nodes: parse::parse(text)? })
    }

    /// What it makes of `data`.
    pub fn render(&self, data: &Value) -> Result<String, RunError> {
        run::run(&self.nodes, data)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let data = json!({
            "Version": "1.0",
            "Ready": true,
            "IPAM": null,
            "Router": {
                "Name": "7e:21:4a:70:2f:45",
                "Port": 6783,
                "Targets": ["a", "b<c"],
                "Peers": [{"NickName": "h1", "UID": 1}, {"NickName": "h2", "UID": 2}],
                "Empty": [],
            },
        });
        let template = Template::parse(template).map_err(|error| error.to_string())?;
        template.render(&data).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_known_from_scripts() {
        for (template, expected) in [
            ("{{.Version}}", "1.0"),
            ("{{ .Version }}", "1.0"),
            ("{{.Router.Name}}", "7e:21:4a:70:2f:45"),
            ("{{json .Router.Targets}}", r#"["a","b\u003cc"]"#),
            ("{{len .Router.Targets}}", "2"),
            (r#"{{range .Router.Targets}}{{.}}{{"\n"}}{{end}}"#, "a\nb<c\n"),
            ("{{range .Router.Peers}}{{.NickName}} {{end}}", "h1 h2 "),
            ("{{range $.Router.Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .Ready}}yes{{else}}no{{end}}", "yes"),
            ("{{if .IPAM}}on{{else if .Ready}}off{{end}}", "off"),
            ("{{with .Router}}{{.Port}}{{end}}", "6783"),
            (r#"{{if eq .Version "2.0" "1.0"}}same{{end}}"#, "same"),
            ("{{if ne .Router.Port 6783}}other{{else}}same{{end}}", "same"),
            ("{{if and .Ready (not .IPAM)}}x{{end}}", "x"),
            (
                r#"{{printf "%-8s|%4d|%q" .Version .Router.Port .Ready}}"#,
                "1.0     |6783|%!q(bool=true)",
            ),
            (r#"{{.Router.Targets | len | printf "%03d"}}"#, "002"),
            ("a {{- .Version -}} b", "a1.0b"),
            ("{{/* nothing */}}{{.IPAM}}", "<nil>"),
            ("{{.Router.Targets}}", "[a b<c]"),
            ("{{`raw \\n`}}", "raw \\n"),
            ("{{(.Router).Port}}", "6783"),
            ("no action } }} {", "no action } }} {"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn wrong_templates_say_where() {
        for (template, expected) in [
            ("{{", "line 1: unclosed action"),
            ("\n{{.Version", "line 2: unclosed action"),
            ("{{end}}", "line 1: unexpected {{end}}"),
            ("{{if .Ready}}", "line 1: {{if}} without {{end}}"),
            ("{{else}}", "line 1: unexpected {{else}}"),
            ("{{nonsense .}}", "line 1: function \"nonsense\" not defined"),
            ("{{}}", "line 1: missing value"),
            ("{{.Version |}}", "line 1: missing value"),
            ("{{(.Version}}", "line 1: unclosed parenthesis"),
            ("{{\"abc}}", "line 1: unterminated string"),
            ("{{$x := .Version}}", "line 1: variables are not supported"),
            ("{{.Version .Ready}}", "line 1: only a function takes arguments"),
        ] {
            assert_eq!(render(template), Err(expected.to_owned()), "{template}");
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_an_error() {
        for (template, expected) in [
            ("{{.Nonsense}}", "can't evaluate field Nonsense"),
            ("{{.IPAM.Range}}", "nil has no field Range"),
            ("{{.Version.Major}}", "a string has no field Major"),
            ("{{len .Router.Port}}", "len of a number"),
            ("{{range .Version}}{{end}}", "range can't iterate over a string"),
            ("{{eq .Version}}", "wrong number of arguments for eq"),
            ("{{printf .Ready}}", "printf needs a format"),
            ("{{.Version | .Ready}}", "only a function takes arguments"),
        ] {
            let error = render(template).unwrap_err();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }

    #[test]
    fn everything_is_bounded() {
        let deep = |open: &str, close: &str| open.repeat(1000) + "." + &close.repeat(1000);
        assert!(render(&deep("{{(", ")}}")).is_err());
        assert!(render(&format!("{{{{{}}}}}", deep("(", ")"))).is_err());
        assert!(render(&deep("{{if .}}", "{{end}}")).is_err());
        assert!(render(&"x".repeat(1 << 20)).is_err());
        assert!(render("{{printf \"%999999999d\" 1}}").is_err());
        let product = "{{range .Router.Peers}}".repeat(30) + "x" + &"{{end}}".repeat(30);
        let product = product.replace(".Router", "$.Router");
        assert!(render(&product).unwrap_err().contains("too many steps"));
    }

    proptest! {
        #[test]
        fn no_template_panics(template in "(\\{\\{|\\}\\}|-|range|if|with|else|end|json|len|printf|eq|\\.|Router|Peers|\"|`|%-?[0-9a-z]|[()|$ 0-9a-z\n]){0,40}") {
            let _ = render(&template);
        }
    }
}
