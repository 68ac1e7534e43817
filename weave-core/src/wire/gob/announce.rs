//! The definitions that a sender owes its receiver.

use super::definitions::{BOOL, BYTES, INT, TEXT, TypeId, UINT};
use super::primitives::{put_bytes, put_int, put_uint};
use super::shape::{Field, Shape};

/// Accepted by every Go release.
const FIRST_ID: TypeId = 65;

/// The distances to the fields `SliceT`, `StructT` and `MapT` of a definition.
const SLICE: u64 = 2;
const STRUCT: u64 = 3;
const MAP: u64 = 4;

/// The types that were defined on a stream, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Announced {
    shapes: Vec<&'static Shape>,
}

impl Announced {
    pub(super) const fn new() -> Self {
        Self { shapes: Vec::new() }
    }

    /// The id of a type. What the stream lacks of its definition is appended to `out`.
    pub(super) fn announce(&mut self, shape: &'static Shape, out: &mut Vec<u8>) -> TypeId {
        if let Some(id) = self.id(shape) {
            return id;
        }
        let first_new = self.shapes.len();
        let id = self.assign(shape);
        let mut sent = vec![false; self.shapes.len() - first_new];
        self.define(shape, first_new, &mut sent, out);
        id
    }

    fn id(&self, shape: &'static Shape) -> Option<TypeId> {
        match shape {
            Shape::Bool => Some(BOOL),
            Shape::Int => Some(INT),
            Shape::Uint => Some(UINT),
            Shape::Bytes => Some(BYTES),
            Shape::Text => Some(TEXT),
            Shape::Slice(_) | Shape::Map(..) | Shape::Struct { .. } => {
                // A type that is used by two crates can have its shape at two addresses.
                let same = |known: &Shape| std::ptr::eq(known, shape) || known == shape;
                (FIRST_ID..).zip(&self.shapes).find(|(_, known)| same(known)).map(|(id, _)| id)
            }
        }
    }

    /// Numbers types as Go does: a struct before its fields, a slice or map after its elements.
    fn assign(&mut self, shape: &'static Shape) -> TypeId {
        if let Some(id) = self.id(shape) {
            return id;
        }
        if let Shape::Struct { fields, .. } = shape {
            let id = self.push(shape);
            for field in *fields {
                self.assign(field.shape);
            }
            return id;
        }
        shape.for_each_part(&mut |part| {
            self.assign(part);
        });
        self.push(shape)
    }

    fn push(&mut self, shape: &'static Shape) -> TypeId {
        let id = FIRST_ID + self.shapes.len() as TypeId;
        self.shapes.push(shape);
        id
    }

    /// Appends definitions, outer before inner, of the types from `first_new` on that have not
    /// been `sent` yet.
    fn define(
        &mut self,
        shape: &'static Shape,
        first_new: usize,
        sent: &mut [bool],
        out: &mut Vec<u8>,
    ) {
        let id = self.assign(shape);
        let new =
            usize::try_from(id - FIRST_ID).ok().and_then(|index| index.checked_sub(first_new));
        match new.and_then(|index| sent.get_mut(index)) {
            Some(sent) if !*sent => *sent = true,
            _ => return,
        }
        let mut body = Vec::new();
        put_int(-id, &mut body);
        match *shape {
            Shape::Slice(element) => self.put_definition(SLICE, id, &[element], &mut body),
            Shape::Map(key, element) => self.put_definition(MAP, id, &[key, element], &mut body),
            Shape::Struct { name, fields } => self.put_struct(name, id, fields, &mut body),
            Shape::Bool | Shape::Int | Shape::Uint | Shape::Bytes | Shape::Text => {
                unreachable!("built-in types have ids below the first new one")
            }
        }
        put_bytes(&body, out);
        shape.for_each_part(&mut |part| self.define(part, first_new, sent, out));
    }

    /// A slice or map: a common part without a name, the ids of the parts.
    fn put_definition(
        &mut self,
        kind: u64,
        id: TypeId,
        parts: &[&'static Shape],
        body: &mut Vec<u8>,
    ) {
        put_uint(kind, body);
        body.extend_from_slice(&[1, 2]);
        put_int(id, body);
        body.push(0);
        for part in parts {
            body.push(1);
            put_int(self.assign(part), body);
        }
        body.extend_from_slice(&[0, 0]);
    }

    fn put_struct(&mut self, name: &str, id: TypeId, fields: &'static [Field], body: &mut Vec<u8>) {
        put_uint(STRUCT, body);
        body.push(1);
        put_name_and_id(name, id, body);
        body.push(1);
        put_uint(fields.len() as u64, body);
        for field in fields {
            put_name_and_id(field.name, self.assign(field.shape), body);
        }
        body.extend_from_slice(&[0, 0]);
    }
}

fn put_name_and_id(name: &str, id: TypeId, body: &mut Vec<u8>) {
    body.push(1);
    put_bytes(name.as_bytes(), body);
    body.push(1);
    put_int(id, body);
    body.push(0);
}
