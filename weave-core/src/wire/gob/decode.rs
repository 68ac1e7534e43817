//! From a stream to typed values.

use std::collections::BTreeMap;

use super::definitions::Definitions;
use super::error::{Error, ErrorKind};
use super::plan::{Plan, Step};
use super::shape::{Gob, Shape};
use crate::wire::{Reader, UnexpectedEnd};

/// No sender makes longer messages: this is what the framing below delivers at most (spec
/// gob.md, section 8).
const MAX_MESSAGE: u64 = 10 << 20;

/// A type that can be decoded, possibly borrowing from the input.
pub trait Decode<'de>: Gob + Sized {
    /// Reads one value. `plan` was made for [`Gob::SHAPE`] of this type.
    ///
    /// # Errors
    /// When the bytes are malformed or the value is not acceptable.
    fn decode(reader: &mut ValueReader<'_, 'de>, plan: &Plan) -> Result<Self, Error>;
}

/// What can be the field of a struct: all that can be decoded, and `Option` of the types whose
/// absence means something.
pub trait DecodeField<'de>: Sized {
    /// The type as it is sent.
    const SHAPE: &'static Shape;

    /// Reads a field that is present.
    ///
    /// # Errors
    /// As for [`Decode::decode`].
    fn decode_field(reader: &mut ValueReader<'_, 'de>, plan: &Plan) -> Result<Self, Error>;
}

/// Takes values from a gob stream.
#[derive(Debug)]
pub struct Decoder<'de> {
    input: Reader<'de>,
    definitions: Definitions<'de>,
    plans: BTreeMap<i64, (&'static Shape, Plan)>,
    /// Set by a definition, cleared by a value: a stream must not end in between.
    value_due: bool,
}

impl<'de> Decoder<'de> {
    /// A decoder at the start of a stream.
    pub const fn new(stream: &'de [u8]) -> Self {
        let input = Reader::new(stream);
        let definitions = Definitions::new();
        Self { input, definitions, plans: BTreeMap::new(), value_due: false }
    }

    /// The next value.
    ///
    /// # Errors
    /// When the stream is malformed, has a value of another type there, or has no more.
    pub fn value<T: Decode<'de>>(&mut self) -> Result<T, Error> {
        let offset = self.input.offset();
        self.next_value()?.ok_or(Error { offset, kind: ErrorKind::EndOfStream })
    }

    /// The next value, if there is one.
    ///
    /// # Errors
    /// When the stream is malformed or has a value of another type there.
    pub fn next_value<T: Decode<'de>>(&mut self) -> Result<Option<T>, Error> {
        self.with_next_value(T::SHAPE, T::decode)
    }

    /// Hands the elements of the next value, a slice, to `each` one by one and keeps none of
    /// them, so that memory is bounded by what `each` keeps. The answer says whether there was
    /// a value.
    ///
    /// # Errors
    /// When the stream is malformed or has a value of another type there, or with the error of
    /// `each`.
    pub fn next_elements<T, E>(
        &mut self,
        mut each: impl FnMut(T) -> Result<(), E>,
    ) -> Result<bool, E>
    where
        [T]: Gob,
        T: Decode<'de>,
        E: From<Error>,
    {
        let elements = self.with_next_value(<[T]>::SHAPE, |reader, plan| {
            let count = reader.count(1, "a slice")?;
            for _ in 0..count {
                reader.expect_element()?;
                each(T::decode(reader, plan.element())?)?;
            }
            Ok::<(), E>(())
        })?;
        Ok(elements.is_some())
    }

    /// Passes over the next value without looking into it, which takes no longer for a large
    /// one. The answer says whether there was a value.
    ///
    /// # Errors
    /// When the stream is malformed up to the end of the value.
    pub fn skip_value(&mut self) -> Result<bool, Error> {
        Ok(self.next_message()?.is_some())
    }

    /// The offset of what comes next, for messages about values that were decoded but refused.
    pub const fn offset(&self) -> usize {
        self.input.offset()
    }

    fn with_next_value<T, E: From<Error>>(
        &mut self,
        shape: &'static Shape,
        decode: impl FnOnce(&mut ValueReader<'_, 'de>, &Plan) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let Some((id, message)) = self.next_message()? else { return Ok(None) };
        let offset = message.offset();
        let plan = match self.plans.get(&id) {
            Some((known, _)) if std::ptr::eq(*known, shape) => None,
            _ => Some(
                Plan::compile(shape, id, &self.definitions)
                    .map_err(|kind| Error { offset, kind })?,
            ),
        };
        if let Some(plan) = plan {
            self.plans.insert(id, (shape, plan));
        }
        let (_, plan) = self.plans.get(&id).expect("inserted above");
        let mut reader = ValueReader { reader: message, definitions: &mut self.definitions };
        if !plan.is_struct() {
            let distance = reader.uint()?;
            if distance != 0 {
                let kind = ErrorKind::NonzeroSingleton(distance);
                return Err(Error { offset, kind }.into());
            }
        }
        decode(&mut reader, plan).map(Some)
    }

    /// Takes definitions up to the next value: its type and its message after that.
    fn next_message(&mut self) -> Result<Option<(i64, Reader<'de>)>, Error> {
        loop {
            let offset = self.input.offset();
            let length = if self.input.is_empty() { 0 } else { uint(&mut self.input)? };
            if length == 0 {
                // A message of length 0 acts like the end, for good.
                self.input = Reader::new(&[]);
                if self.value_due {
                    return Err(Error { offset, kind: ErrorKind::EndOfStream });
                }
                return Ok(None);
            }
            let length = usize::try_from(length)
                .ok()
                .filter(|_| length <= MAX_MESSAGE)
                .ok_or(Error { offset, kind: ErrorKind::MessageTooLong(length) })?;
            let message = self.input.sub_reader(length, "a message")?;
            let mut reader = ValueReader { reader: message, definitions: &mut self.definitions };
            let id = reader.int()?;
            if id >= 0 {
                self.value_due = false;
                return Ok(Some((id, reader.reader)));
            }
            let defined = id.checked_neg();
            reader.define(defined.ok_or(Error { offset, kind: ErrorKind::Redefined(id) })?)?;
            if !reader.is_empty() {
                return Err(reader.error(ErrorKind::BadDefinition("further bytes")));
            }
            self.value_due = true;
        }
    }
}

/// Reads within one message.
#[derive(Debug)]
pub struct ValueReader<'s, 'de> {
    pub(super) reader: Reader<'de>,
    pub(super) definitions: &'s mut Definitions<'de>,
}

impl<'de> ValueReader<'_, 'de> {
    /// An error at the current place.
    pub const fn error(&self, kind: ErrorKind) -> Error {
        Error { offset: self.reader.offset(), kind }
    }

    pub(crate) const fn offset(&self) -> usize {
        self.reader.offset()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// Starts on a struct.
    pub fn fields<'p>(&self, plan: &'p Plan) -> Fields<'p> {
        Fields { steps: plan.steps() }
    }

    /// An unsigned integer.
    pub(super) fn uint(&mut self) -> Result<u64, Error> {
        uint(&mut self.reader)
    }

    /// A signed integer.
    pub(super) fn int(&mut self) -> Result<i64, Error> {
        let number = self.uint()?;
        let magnitude = (number >> 1).cast_signed();
        Ok(if number & 1 == 0 { magnitude } else { !magnitude })
    }

    /// A byte string.
    pub(super) fn bytes(&mut self) -> Result<&'de [u8], Error> {
        let length = self.count(1, "a byte string")?;
        Ok(self.reader.bytes(length, "a byte string")?)
    }

    /// The number of elements that follow, each of at least `size` bytes.
    pub(super) fn count(&mut self, size: usize, what: &'static str) -> Result<usize, Error> {
        let offset = self.offset();
        let length = self.uint()?;
        let left = self.reader.remaining();
        match usize::try_from(length) {
            Ok(count) if count <= left / size => Ok(count),
            _ => Err(Error { offset, kind: ErrorKind::LengthBeyondMessage { what, length, left } }),
        }
    }

    /// Makes sure of the byte that every element has, because a struct that is cut off at the
    /// end of its message would do without.
    pub(super) fn expect_element(&self) -> Result<(), Error> {
        if self.is_empty() {
            let offset = self.offset();
            return Err(UnexpectedEnd { what: "an element", offset, needed: 1, left: 0 }.into());
        }
        Ok(())
    }
}

/// The fields that are present in a struct value.
#[derive(Debug)]
pub struct Fields<'p> {
    /// For the fields after the last one that was present.
    steps: &'p [Step],
}

impl<'p> Fields<'p> {
    /// The next field that the receiver knows: its number in the receiver's struct and the plan
    /// to decode it with. The caller must decode it before it asks again.
    ///
    /// # Errors
    /// When the value is malformed.
    pub fn next(
        &mut self,
        reader: &mut ValueReader<'_, '_>,
    ) -> Result<Option<(usize, &'p Plan)>, Error> {
        loop {
            // A body that fills its message needs no terminator.
            if reader.is_empty() {
                return Ok(None);
            }
            let distance = reader.uint()?;
            if distance == 0 {
                return Ok(None);
            }
            let step = usize::try_from(distance - 1)
                .ok()
                .and_then(|skipped| self.steps.get(skipped..))
                .and_then(<[Step]>::split_first);
            let Some((step, rest)) = step else {
                return Err(reader.error(ErrorKind::FieldNumber));
            };
            self.steps = rest;
            match step {
                Step::Take(number, plan) => return Ok(Some((*number, plan))),
                Step::Skip(id) => reader.skip(*id)?,
            }
        }
    }
}

/// One byte below 0x80, or the negated number of bytes that follow. The value need not be
/// minimal.
fn uint(reader: &mut Reader<'_>) -> Result<u64, Error> {
    let offset = reader.offset();
    let first = reader.u8("an integer")?;
    if first < 0x80 {
        return Ok(first.into());
    }
    let length = first.wrapping_neg();
    if length > 8 {
        return Err(Error { offset, kind: ErrorKind::IntegerTooLong(first) });
    }
    let bytes = reader.bytes(length.into(), "an integer")?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
