//! Labels of pods and namespaces, and the selectors that match them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A label selector. All its requirements must hold; one without any selects everything.
///
/// Equal selectors compare equal however they were written: requirements and values are ordered,
/// and `matchLabels` is the operator `In` with one value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Selector(BTreeSet<Requirement>);

/// One requirement of a selector.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Requirement {
    /// The key of the label.
    pub key: String,
    /// What must hold for its value.
    pub condition: Condition,
}

/// What must hold for a label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Condition {
    /// It is there, with one of these values.
    In(BTreeSet<String>),
    /// It is not there, or has none of these values.
    NotIn(BTreeSet<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selector {
    /// Selects everything.
    pub const fn everything() -> Self {
        Self(BTreeSet::new())
    }

    /// Returns whether these labels are selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }

    /// Returns whether it has no requirement.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        Self(requirements.into_iter().collect())
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        // A label with an empty value is there: it is not the same as none.
        let value = labels.get(&self.key);
        match &self.condition {
            Condition::In(values) => value.is_some_and(|value| values.contains(value)),
            Condition::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Condition::Exists => value.is_some(),
            Condition::DoesNotExist => value.is_none(),
        }
    }
}

/// Writes it as `kubectl` takes it, and Weave Net's logs show it: `app=web,tier in (a,b)`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, requirement) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, condition } = self;
        let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        match condition {
            Condition::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Condition::In(values) => write!(f, "{key} in ({})", list(values)),
            Condition::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Condition::Exists => f.write_str(key),
            Condition::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, condition: Condition) -> Requirement {
        Requirement { key: key.to_owned(), condition }
    }

    fn values(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    #[test]
    fn each_condition_with_the_label_absent_empty_and_set() {
        let empty = Labels::from([("k".to_owned(), String::new())]);
        let set = Labels::from([("k".to_owned(), "a".to_owned())]);
        let cases = [
            (Condition::In(values(&["a", "b"])), [false, false, true]),
            (Condition::In(values(&[""])), [false, true, false]),
            (Condition::NotIn(values(&["a"])), [true, true, false]),
            (Condition::Exists, [false, true, true]),
            (Condition::DoesNotExist, [true, false, false]),
        ];
        for (condition, expected) in cases {
            let selector: Selector = [requirement("k", condition)].into_iter().collect();
            let found = [&Labels::new(), &empty, &set].map(|labels| selector.matches(labels));
            assert_eq!(found, expected, "{selector}");
        }
        assert!(Selector::everything().matches(&Labels::new()));
    }

    #[test]
    fn the_same_selector_written_in_two_ways_is_one() {
        let one = requirement("a", Condition::In(values(&["x"])));
        let two = requirement("b", Condition::Exists);
        let [forth, back]: [Selector; 2] = [
            [one.clone(), two.clone()].into_iter().collect(),
            [two, one.clone(), one].into_iter().collect(),
        ];
        assert_eq!(forth, back);
        assert_eq!(forth.to_string(), "a=x,b");
    }
}
