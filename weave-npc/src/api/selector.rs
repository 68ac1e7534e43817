//! Label selectors.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Problems;
use crate::labels::{Condition, Requirement, Selector};

/// A label selector.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must have these values.
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Other requirements.
    pub match_expressions: Option<Vec<Expression>>,
}

/// A requirement.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Expression {
    /// The key of a label.
    pub key: String,
    /// What must hold.
    pub operator: String,
    /// For these values.
    pub values: Option<Vec<String>>,
}

impl LabelSelector {
    /// Reads it; none if one of its requirements cannot be understood.
    pub(super) fn read(self, problems: &mut Problems<'_>) -> Option<Selector> {
        let labels = self.match_labels.unwrap_or_default().into_iter();
        let labels = labels.map(|(key, value)| {
            Some(Requirement { key, condition: Condition::In([value].into()) })
        });
        let expressions = self.match_expressions.unwrap_or_default().into_iter().enumerate();
        let expressions = expressions.map(|(position, expression)| {
            expression.read(&mut problems.at(format_args!("matchExpressions[{position}]")))
        });
        // All are read, so that all problems are found.
        let all: Vec<_> = labels.chain(expressions).collect();
        all.into_iter().collect()
    }
}

impl Expression {
    fn read(self, problems: &mut Problems<'_>) -> Option<Requirement> {
        let values = self.values.unwrap_or_default();
        let condition = match (self.operator.as_str(), values.is_empty()) {
            ("In", false) => Condition::In(values.into_iter().collect()),
            ("NotIn", false) => Condition::NotIn(values.into_iter().collect()),
            ("Exists", true) => Condition::Exists,
            ("DoesNotExist", true) => Condition::DoesNotExist,
            ("In" | "NotIn", true) => {
                problems.at("values").add(format!("{} needs values", self.operator));
                return None;
            }
            ("Exists" | "DoesNotExist", false) => {
                problems.at("values").add(format!("{} takes no values", self.operator));
                return None;
            }
            (other, _) => {
                problems.at("operator").add(format!(
                    "{other:?} is unknown; In, NotIn, Exists and DoesNotExist are known"
                ));
                return None;
            }
        };
        Some(Requirement { key: self.key, condition })
    }
}
