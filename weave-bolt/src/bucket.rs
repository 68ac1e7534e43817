//! What a file holds.

use std::collections::BTreeMap;

/// Keys in their order, each with a value or with a bucket of its own. The sequence number that
/// bolt counts for each bucket is not kept.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Bucket<'a>(BTreeMap<&'a [u8], Value<'a>>);

/// What stands at a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// Further keys.
    Bucket(Bucket<'a>),
}

impl<'a> Bucket<'a> {
    /// Returns the bytes at a key; none if there are none, or if a bucket is there.
    pub fn bytes(&self, key: &[u8]) -> Option<&'a [u8]> {
        match self.0.get(key) {
            Some(Value::Bytes(bytes)) => Some(bytes),
            Some(Value::Bucket(_)) | None => None,
        }
    }

    /// Returns the bucket at a key; none if there is none.
    pub fn bucket(&self, key: &[u8]) -> Option<&Self> {
        match self.0.get(key) {
            Some(Value::Bucket(bucket)) => Some(bucket),
            Some(Value::Bytes(_)) | None => None,
        }
    }

    /// Puts a value at a key, in place of the one that was there.
    pub fn insert(&mut self, key: &'a [u8], value: Value<'a>) {
        self.0.insert(key, value);
    }

    /// Returns all keys in order, with what stands there.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a [u8], &Value<'a>)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the last key.
    pub(crate) fn last_key(&self) -> Option<&'a [u8]> {
        self.0.last_key_value().map(|(key, _)| *key)
    }
}
