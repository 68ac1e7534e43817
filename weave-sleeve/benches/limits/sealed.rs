//! The encryption of the minimal forwarder: the cost of the cipher and nothing else. Texts are
//! sealed and opened in place; tags lie apart, and the system call gathers and scatters them.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use nix::sys::uio::readv;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{GSO_BATCH, SEGMENT};

const TAG: usize = 16;
/// Length of a text without its tag, and of all texts in a batch.
const TEXT: usize = SEGMENT as usize - TAG;
pub const TEXTS: usize = GSO_BATCH / SEGMENT as usize * TEXT;
/// Tags of a batch, and one more: a receive buffer is a little longer.
const TAGS: usize = TEXTS / TEXT + 1;

/// One direction. Nothing here is secret, so all datagrams share one nonce, which costs the same
/// and needs no order.
pub struct SealedDirection {
    key: LessSafeKey,
    tags: [[u8; TAG]; TAGS],
}

impl SealedDirection {
    pub fn new() -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("16 bytes");
        Self { key: LessSafeKey::new(key), tags: [[0; TAG]; TAGS] }
    }

    /// Seals a batch of texts and sends it. What does not fit into the socket is lost.
    pub fn send(&mut self, socket: &UdpSocket, to: &SockaddrIn, batch: &mut [u8]) {
        let alone = batch.len() <= TEXT;
        let mut pieces = Vec::with_capacity(2 * TAGS);
        for (text, place) in batch.chunks_mut(TEXT).zip(&mut self.tags) {
            let tag = self.key.seal_in_place_separate_tag(nonce(), Aad::empty(), text);
            place.copy_from_slice(tag.expect("a short text").as_ref());
            pieces.extend([IoSlice::new(text), IoSlice::new(place)]);
        }
        let segments = [ControlMessage::UdpGsoSegments(&SEGMENT)];
        let segments = if alone { &[] } else { &segments[..] };
        let _ = sendmsg(socket.as_raw_fd(), &pieces, segments, MsgFlags::empty(), Some(to));
    }

    /// Receives and opens a batch, if there is one, and returns the length of all texts.
    pub fn receive(&mut self, socket: &UdpSocket, place: &mut [u8]) -> Option<usize> {
        let mut pieces = Vec::with_capacity(2 * TAGS);
        for (text, tag) in place.chunks_mut(TEXT).zip(&mut self.tags) {
            pieces.extend([IoSliceMut::new(text), IoSliceMut::new(tag)]);
        }
        let taken = readv(socket, &mut pieces).ok()?;
        let (whole, rest) = (taken / usize::from(SEGMENT), taken % usize::from(SEGMENT));
        for (text, tag) in place.chunks_mut(TEXT).zip(&self.tags).take(whole) {
            self.open(text, *tag);
        }
        let Some(last) = rest.checked_sub(TAG) else { return Some(whole * TEXT) };
        // The tag of a short text begins where the text ends, and may reach into the next place.
        let (text, behind) = place[whole * TEXT..].split_at_mut(last);
        let here = (TEXT - last).min(TAG);
        let mut tag = [0; TAG];
        tag[..here].copy_from_slice(&behind[..here]);
        tag[here..].copy_from_slice(&self.tags[whole][..TAG - here]);
        self.open(text, tag);
        Some(whole * TEXT + last)
    }

    fn open(&self, text: &mut [u8], tag: [u8; TAG]) {
        let opened =
            self.key.open_in_place_separate_tag(nonce(), Aad::empty(), tag.into(), text, 0..);
        opened.expect("what the other side sealed");
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}
