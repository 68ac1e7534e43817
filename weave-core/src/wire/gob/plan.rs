//! How values of a sender's type become values of the receiver's.

use super::definitions::{
    BOOL, BYTES, DefinedField, Definition, Definitions, FIRST_DEFINED, INT, TEXT, TypeId, UINT,
};
use super::error::ErrorKind;
use super::shape::{Field, Shape};

/// What the receiver expects, matched with what the stream defines. Made once per stream and
/// type, and handed to [`Decode::decode`](super::Decode::decode).
#[derive(Debug)]
pub struct Plan(pub(super) Steps);

#[derive(Debug)]
pub(super) enum Steps {
    /// A built-in type, which needs no preparation.
    Leaf,
    Slice(Box<Plan>),
    Map(Box<(Plan, Plan)>),
    /// One for each field of the sender's struct, in its order.
    Struct(Box<[Step]>),
}

#[derive(Debug)]
pub(super) enum Step {
    /// The number of the field in the receiver's struct.
    Take(usize, Plan),
    Skip(TypeId),
}

impl Plan {
    /// Whether the type is a struct at the top of a message, which lacks the zero byte.
    pub(super) const fn is_struct(&self) -> bool {
        matches!(self.0, Steps::Struct(_))
    }

    /// The plan for the elements of a slice.
    pub(super) const fn element(&self) -> &Self {
        match &self.0 {
            Steps::Slice(element) => element,
            _ => self,
        }
    }

    /// The plans for the keys and the values of a map.
    pub(super) const fn entry(&self) -> (&Self, &Self) {
        match &self.0 {
            Steps::Map(entry) => (&entry.0, &entry.1),
            _ => (self, self),
        }
    }

    pub(super) const fn steps(&self) -> &[Step] {
        match &self.0 {
            Steps::Struct(steps) => steps,
            _ => &[],
        }
    }

    /// Matches `shape` with type `id`. Recursion follows the shape, which is finite; the work is
    /// bounded by its size times the number of fields in a definition.
    pub(super) fn compile(
        shape: &Shape,
        id: TypeId,
        definitions: &Definitions<'_>,
    ) -> Result<Self, ErrorKind> {
        let mismatch = || ErrorKind::TypeMismatch {
            expected: shape.describe(),
            found: definitions.describe(id),
            field: None,
        };
        let steps = match (shape, id, definitions.get(id)) {
            (Shape::Bool, BOOL, _)
            | (Shape::Int, INT, _)
            | (Shape::Uint, UINT, _)
            | (Shape::Bytes, BYTES, _)
            | (Shape::Text, TEXT, _) => Steps::Leaf,
            (Shape::Slice(shape), _, Some(Definition::Slice { element })) => {
                Steps::Slice(Box::new(Self::compile(shape, *element, definitions)?))
            }
            (Shape::Map(key, value), _, Some(Definition::Map { key: key_id, element })) => {
                Steps::Map(Box::new((
                    Self::compile(key, *key_id, definitions)?,
                    Self::compile(value, *element, definitions)?,
                )))
            }
            (Shape::Struct { name, fields }, _, Some(Definition::Struct(defined))) => {
                Steps::Struct(Self::compile_struct(name, fields, defined, definitions)?)
            }
            (_, _, None) if id >= FIRST_DEFINED => return Err(ErrorKind::Undefined(id)),
            _ => return Err(mismatch()),
        };
        Ok(Self(steps))
    }

    fn compile_struct(
        name: &'static str,
        fields: &'static [Field],
        defined: &[DefinedField<'_>],
        definitions: &Definitions<'_>,
    ) -> Result<Box<[Step]>, ErrorKind> {
        let mut taken = vec![false; fields.len()];
        let mut steps = Vec::with_capacity(defined.len());
        for theirs in defined {
            let known = fields
                .iter()
                .zip(&mut taken)
                .enumerate()
                .find(|(_, (own, _))| own.name.as_bytes() == theirs.name);
            let Some((number, (own, taken))) = known else {
                steps.push(Step::Skip(theirs.id));
                continue;
            };
            // Also keeps nested structs from multiplying the work.
            if std::mem::replace(taken, true) {
                return Err(ErrorKind::DuplicateField(own.name));
            }
            let plan =
                Self::compile(own.shape, theirs.id, definitions).map_err(|kind| match kind {
                    ErrorKind::TypeMismatch { expected, found, field: None } => {
                        ErrorKind::TypeMismatch { expected, found, field: Some(own.name) }
                    }
                    other => other,
                })?;
            steps.push(Step::Take(number, plan));
        }
        if !steps.is_empty() && !taken.contains(&true) {
            return Err(ErrorKind::NoCommonField(name));
        }
        Ok(steps.into_boxed_slice())
    }
}
