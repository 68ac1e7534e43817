//! How definitions of types are read, and values stepped over with their help.

use super::decode::ValueReader;
use super::definitions::{
    BOOL, BYTES, COMPLEX, DefinedField, Definition, FIRST_DEFINED, FLOAT, INT, INTERFACE,
    MAX_PREALLOCATION, TEXT, TypeId, UINT,
};
use super::error::{Error, ErrorKind};

/// Real structs have at most a dozen.
const MAX_FIELDS: usize = 1000;
/// Real values nest four levels deep.
const MAX_DEPTH: usize = 32;

impl<'de> ValueReader<'_, 'de> {
    /// Reads the definition of type `id`.
    ///
    /// ```text
    /// wireType: 0 ArrayT  1 SliceT  2 StructT  3 MapT  4..6 encoded by its own method
    /// each:     0 CommonType {0 Name  1 Id}
    /// ArrayT:   1 Elem  2 Len
    /// SliceT:   1 Elem
    /// StructT:  1 Field: slice of {0 Name  1 Id}
    /// MapT:     1 Key  2 Elem
    /// ```
    pub(super) fn define(&mut self, id: TypeId) -> Result<(), Error> {
        let offset = self.offset();
        if id < FIRST_DEFINED || self.definitions.get(id).is_some() {
            return Err(Error { offset, kind: ErrorKind::Redefined(id) });
        }
        let mut definition = None;
        let mut kind = FieldNumbers::new();
        while let Some(number) = kind.next(self)? {
            if definition.is_some() {
                return Err(Error { offset, kind: ErrorKind::BadDefinition("more than one kind") });
            }
            definition = Some(match number {
                0 => {
                    let (element, length) = self.type_parameters()?;
                    let length = u64::try_from(length)
                        .map_err(|_| self.error(ErrorKind::BadDefinition("a negative length")))?;
                    Definition::Array { element, length }
                }
                1 => Definition::Slice { element: self.type_parameters()?.0 },
                2 => Definition::Struct(self.struct_fields()?),
                3 => {
                    let (key, element) = self.type_parameters()?;
                    Definition::Map { key, element }
                }
                4..=6 => {
                    self.type_parameters()?;
                    Definition::Opaque
                }
                _ => return Err(self.error(ErrorKind::BadDefinition("an unknown kind"))),
            });
        }
        let definition =
            definition.ok_or(Error { offset, kind: ErrorKind::BadDefinition("no kind") })?;
        self.definitions.insert(id, definition).map_err(|kind| Error { offset, kind })
    }

    /// The integer fields 1 and 2 after the common part; zero if they are left out.
    fn type_parameters(&mut self) -> Result<(i64, i64), Error> {
        let (mut first, mut second) = (0, 0);
        let mut numbers = FieldNumbers::new();
        while let Some(number) = numbers.next(self)? {
            match number {
                0 => {
                    self.name_and_id()?;
                }
                1 => first = self.int()?,
                2 => second = self.int()?,
                _ => return Err(self.error(ErrorKind::BadDefinition("an unknown field"))),
            }
        }
        Ok((first, second))
    }

    fn struct_fields(&mut self) -> Result<Vec<DefinedField<'de>>, Error> {
        let mut fields = Vec::new();
        let mut numbers = FieldNumbers::new();
        while let Some(number) = numbers.next(self)? {
            match number {
                0 => {
                    self.name_and_id()?;
                }
                1 => {
                    let count = self.count(1, "the list of fields")?;
                    if count > MAX_FIELDS {
                        return Err(self.error(ErrorKind::LimitExceeded {
                            what: "fields in a struct",
                            limit: MAX_FIELDS,
                        }));
                    }
                    fields.reserve(count.min(MAX_PREALLOCATION));
                    for _ in 0..count {
                        self.expect_element()?;
                        let (name, id) = self.name_and_id()?;
                        fields.push(DefinedField { name, id });
                    }
                }
                _ => return Err(self.error(ErrorKind::BadDefinition("an unknown field"))),
            }
        }
        Ok(fields)
    }

    /// Both `CommonType` and the type of a field are a name and an id.
    fn name_and_id(&mut self) -> Result<(&'de [u8], TypeId), Error> {
        let (mut name, mut id) = (&[][..], 0);
        let mut numbers = FieldNumbers::new();
        while let Some(number) = numbers.next(self)? {
            match number {
                0 => name = self.bytes()?,
                1 => id = self.int()?,
                _ => return Err(self.error(ErrorKind::BadDefinition("an unknown field"))),
            }
        }
        Ok((name, id))
    }

    /// Steps over a value of any type.
    pub(super) fn skip(&mut self, id: TypeId) -> Result<(), Error> {
        self.skip_at_depth(id, 0)
    }

    /// Recurses over the data and not over the definitions, which may be recursive.
    fn skip_at_depth(&mut self, id: TypeId, depth: usize) -> Result<(), Error> {
        if depth >= MAX_DEPTH {
            let kind = ErrorKind::LimitExceeded { what: "levels of nesting", limit: MAX_DEPTH };
            return Err(self.error(kind));
        }
        match id {
            BOOL | INT | UINT | FLOAT => {
                self.uint()?;
            }
            BYTES | TEXT => {
                self.bytes()?;
            }
            COMPLEX => {
                self.uint()?;
                self.uint()?;
            }
            INTERFACE => self.skip_interface()?,
            _ => match *self.definitions.get(id).ok_or(self.error(ErrorKind::Undefined(id)))? {
                Definition::Array { element, length } => {
                    let count = self.count(1, "an array")?;
                    if count as u64 != length {
                        let found = count as u64;
                        return Err(self.error(ErrorKind::ArrayLength { found, defined: length }));
                    }
                    self.skip_elements(count, &[element], depth)?;
                }
                Definition::Slice { element } => {
                    let count = self.count(1, "a slice")?;
                    self.skip_elements(count, &[element], depth)?;
                }
                Definition::Map { key, element } => {
                    let count = self.count(2, "a map")?;
                    self.skip_elements(count, &[key, element], depth)?;
                }
                Definition::Struct(_) => self.skip_struct(id, depth)?,
                Definition::Opaque => {
                    self.bytes()?;
                }
            },
        }
        Ok(())
    }

    fn skip_elements(&mut self, count: usize, ids: &[TypeId], depth: usize) -> Result<(), Error> {
        for _ in 0..count {
            for id in ids {
                self.expect_element()?;
                self.skip_at_depth(*id, depth + 1)?;
            }
        }
        Ok(())
    }

    fn skip_struct(&mut self, id: TypeId, depth: usize) -> Result<(), Error> {
        let mut numbers = FieldNumbers::new();
        while let Some(number) = numbers.next(self)? {
            // Looked up each time, because an interface value in a field can add definitions.
            let field = match self.definitions.get(id) {
                Some(Definition::Struct(fields)) => {
                    usize::try_from(number).ok().and_then(|number| fields.get(number))
                }
                _ => None,
            };
            let field = field.ok_or(self.error(ErrorKind::FieldNumber))?.id;
            self.skip_at_depth(field, depth + 1)?;
        }
        Ok(())
    }

    /// The name of the type in it (none: a nil interface), definitions, the type id, a length,
    /// the value.
    fn skip_interface(&mut self) -> Result<(), Error> {
        if self.bytes()?.is_empty() {
            return Ok(());
        }
        loop {
            let id = self.int()?;
            if id >= 0 {
                break;
            }
            self.define(id.checked_neg().ok_or(self.error(ErrorKind::Redefined(id)))?)?;
            // The length of what follows.
            self.uint()?;
        }
        self.bytes()?;
        Ok(())
    }
}

/// The numbers of the fields that are present in a struct body.
struct FieldNumbers {
    /// One more than the last number; the first distance counts from -1.
    next: u64,
}

impl FieldNumbers {
    const fn new() -> Self {
        Self { next: 0 }
    }

    fn next(&mut self, reader: &mut ValueReader<'_, '_>) -> Result<Option<u64>, Error> {
        // A body that fills its message needs no terminator.
        if reader.is_empty() {
            return Ok(None);
        }
        let distance = reader.uint()?;
        if distance == 0 {
            return Ok(None);
        }
        let number = self
            .next
            .checked_add(distance - 1)
            .ok_or_else(|| reader.error(ErrorKind::FieldNumber))?;
        self.next = number.checked_add(1).ok_or_else(|| reader.error(ErrorKind::FieldNumber))?;
        Ok(Some(number))
    }
}
