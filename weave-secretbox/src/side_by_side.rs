//! Several messages side by side.
//!
//! ```text
//!   lanes     |  0   |  1   |  2   |  3   | ...                     three messages: first of all
//!   batch 0   | A  0 | B  0 | C  0 | A  1 | A  2 | ...              their blocks 0, with the keys
//!   batch 1   | A 14 | ...  | A 22 | B  1 | B  2 | ...              of the tags
//!   ...                                     ... | C 22 | unused |
//! ```
//!
//! A message of a packet's length is no multiple of sixteen blocks: alone it leaves lanes unused,
//! among others only the last batch of them all does.

use std::array;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::salsa20::{BLOCK_LEN, Backend, Key, LANES, NONCE_LEN, Places};
use crate::{OpenError, TAG_LEN, poly1305};

/// What block 0 gives to the tag. Its rest is where the keystream begins.
const TAG_KEY_LEN: usize = 32;

type TagKey = [u8; TAG_KEY_LEN];

/// A message to be sealed or opened where it lies.
#[derive(Debug)]
pub struct Message<'m> {
    /// The last 8 bytes of the nonce.
    pub nonce: [u8; NONCE_LEN],
    /// Of the text when it is sealed.
    pub tag: &'m mut [u8; TAG_LEN],
    /// What is encrypted or decrypted.
    pub text: &'m mut [u8],
}

/// As many messages as can have their blocks 0 in one batch; none behind the last one.
type Group<'m> = [Option<Message<'m>>; LANES];

/// Encrypts messages and writes their tags.
pub(crate) fn seal<'m>(
    backend: Backend,
    key: &Key,
    messages: impl IntoIterator<Item = Message<'m>>,
) {
    for mut group in groups(messages) {
        let mut tag_keys = [[0; TAG_KEY_LEN]; LANES];
        let mut places = tag_keys.iter_mut();
        apply(backend, key, &mut group, |_, tag_key| {
            if let Some(place) = places.next() {
                *place = *tag_key;
            }
            true
        });
        for (message, tag_key) in group.into_iter().flatten().zip(&mut tag_keys) {
            *message.tag = poly1305::tag(tag_key, message.text);
            tag_key.zeroize();
        }
    }
}

/// Decrypts those messages whose tags are right, and tells of each in order.
pub(crate) fn open<'m>(
    backend: Backend,
    key: &Key,
    messages: impl IntoIterator<Item = Message<'m>>,
    mut each: impl FnMut([u8; NONCE_LEN], Result<&'m mut [u8], OpenError>),
) {
    for mut group in groups(messages) {
        let believed = apply(backend, key, &mut group, |message, key| {
            poly1305::tag(key, message.text).ct_eq(message.tag).into()
        });
        for (Message { nonce, text, .. }, believed) in group.into_iter().flatten().zip(believed) {
            each(nonce, if believed { Ok(text) } else { Err(OpenError) });
        }
    }
}

fn groups<'m>(messages: impl IntoIterator<Item = Message<'m>>) -> impl Iterator<Item = Group<'m>> {
    let mut messages = messages.into_iter().fuse();
    std::iter::from_fn(move || {
        let group: Group<'m> = array::from_fn(|_| messages.next());
        group[0].is_some().then_some(group)
    })
}

/// Combines texts with their keystreams, but for those that `admit` refuses. It sees each message
/// in order, before that is changed, with the key of its tag. Returns what it said.
fn apply<'m>(
    backend: Backend,
    key: &Key,
    group: &mut Group<'m>,
    mut admit: impl FnMut(&Message<'m>, &TagKey) -> bool,
) -> [bool; LANES] {
    let mut admitted = [false; LANES];
    let mut places = Places::default();
    let mut stream = [[0; BLOCK_LEN]; LANES];
    let mut counts = [0; LANES];
    let mut firsts = 0;
    for (count, message) in counts.iter_mut().zip(group.iter().flatten()) {
        *count = (TAG_KEY_LEN + message.text.len()).div_ceil(BLOCK_LEN);
        places.put(firsts, message.nonce, 0, 1);
        firsts += 1;
    }
    let mut start = Cursor { message: 0, block: 1 };
    loop {
        let (mut lane, mut end) = (firsts, start);
        while let Some(run) = end.next(&counts, LANES - lane) {
            if let Some(message) = &group[run.message] {
                places.put(lane, message.nonce, run.block as u64, run.count);
            }
            lane += run.count;
        }
        if lane == 0 {
            return admitted;
        }
        backend.blocks(key, &places, lane, &mut stream);
        let slots = group.iter_mut().flatten().zip(&mut admitted).zip(&stream).take(firsts);
        for ((message, admitted), block) in slots {
            let (tag_key, keystream) = block.split_first_chunk().expect("longer than a key");
            *admitted = admit(message, tag_key);
            if *admitted {
                xor(message.text, keystream);
            }
        }
        let mut lane = firsts;
        while let Some(run) = start.next(&counts, LANES - lane) {
            if let Some(message) = &mut group[run.message]
                && admitted[run.message]
            {
                let keystream = stream[lane..lane + run.count].as_flattened();
                xor(&mut message.text[run.block * BLOCK_LEN - TAG_KEY_LEN..], keystream);
            }
            lane += run.count;
        }
        firsts = 0;
        // Nothing more is computed for those that were refused.
        for (count, admitted) in counts.iter_mut().zip(admitted) {
            *count *= usize::from(admitted);
        }
    }
}

/// A place in the sequence of all blocks of a group but the blocks 0.
#[derive(Clone, Copy)]
struct Cursor {
    message: usize,
    block: usize,
}

/// Blocks of one message that come one after the other.
struct Run {
    message: usize,
    block: usize,
    count: usize,
}

impl Cursor {
    /// The next blocks, at most as many as there is `room` for. `counts` are those of the messages.
    #[inline]
    fn next(&mut self, counts: &[usize; LANES], room: usize) -> Option<Run> {
        while let Some(count) = counts.get(self.message) {
            let Self { message, block } = *self;
            let count = count.saturating_sub(block).min(room);
            if count > 0 {
                self.block += count;
                return Some(Run { message, block, count });
            }
            if room == 0 {
                return None;
            }
            *self = Self { message: message + 1, block: 1 };
        }
        None
    }
}

/// Combines a text with a keystream, as far as both go.
#[inline]
fn xor(text: &mut [u8], keystream: &[u8]) {
    for (byte, key) in text.iter_mut().zip(keystream) {
        *byte ^= key;
    }
}
