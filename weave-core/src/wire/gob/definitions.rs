//! The types that a stream defines.

use std::collections::BTreeMap;

use super::error::ErrorKind;

/// A type on one stream: built-in below [`FIRST_DEFINED`], defined by the sender from there on.
pub(super) type TypeId = i64;

pub(super) const BOOL: TypeId = 1;
pub(super) const INT: TypeId = 2;
pub(super) const UINT: TypeId = 3;
pub(super) const FLOAT: TypeId = 4;
pub(super) const BYTES: TypeId = 5;
pub(super) const TEXT: TypeId = 6;
pub(super) const COMPLEX: TypeId = 7;
pub(super) const INTERFACE: TypeId = 8;

/// Current Go releases define types from 64 up, older ones from 65 up.
pub(super) const FIRST_DEFINED: TypeId = 64;

/// Real streams have about a dozen.
const MAX_DEFINITIONS: usize = 1000;
/// Capacity that is set aside for elements before they have been seen.
pub(super) const MAX_PREALLOCATION: usize = 64;

#[derive(Debug)]
pub(super) struct Definitions<'de>(BTreeMap<TypeId, Definition<'de>>);

/// Ids in here may be defined later, or never.
#[derive(Debug)]
pub(super) enum Definition<'de> {
    Array {
        element: TypeId,
        length: u64,
    },
    Slice {
        element: TypeId,
    },
    Map {
        key: TypeId,
        element: TypeId,
    },
    Struct(Vec<DefinedField<'de>>),
    /// A type that Go encodes by a method of its own: a byte string.
    Opaque,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct DefinedField<'de> {
    pub(super) name: &'de [u8],
    pub(super) id: TypeId,
}

impl<'de> Definitions<'de> {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn get(&self, id: TypeId) -> Option<&Definition<'de>> {
        self.0.get(&id)
    }

    /// For error messages.
    pub(super) fn describe(&self, id: TypeId) -> &'static str {
        match id {
            BOOL => "a bool",
            INT => "an int",
            UINT => "a uint",
            FLOAT => "a float",
            BYTES => "bytes",
            TEXT => "a string",
            COMPLEX => "a complex number",
            INTERFACE => "an interface",
            _ => match self.get(id) {
                Some(Definition::Array { .. }) => "an array",
                Some(Definition::Slice { .. }) => "a slice",
                Some(Definition::Map { .. }) => "a map",
                Some(Definition::Struct(_)) => "a struct",
                Some(Definition::Opaque) => "a self-encoding type",
                None => "an undefined type",
            },
        }
    }

    pub(super) fn insert(
        &mut self,
        id: TypeId,
        definition: Definition<'de>,
    ) -> Result<(), ErrorKind> {
        if self.0.len() >= MAX_DEFINITIONS {
            return Err(ErrorKind::LimitExceeded {
                what: "type definitions",
                limit: MAX_DEFINITIONS,
            });
        }
        self.0.insert(id, definition);
        Ok(())
    }
}
