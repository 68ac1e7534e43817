//! The seal of the least forwarder: what the cipher must cost, and nothing else. A text is sealed where
//! it was captured and opened where it arrives; tags lie apart, and the system call puts them behind
//! the texts and takes them off again.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use nix::sys::uio::readv;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{SEGMENT, TRAIN};

const TAG: usize = 16;
/// What a datagram holds beside its tag, and what a train of as many holds.
const TEXT: usize = SEGMENT as usize - TAG;
pub const TEXTS: usize = TRAIN / SEGMENT as usize * TEXT;
/// Datagrams in a train, and one: a receive buffer is a little longer.
const TAGS: usize = TEXTS / TEXT + 1;

/// One direction. Nothing here is secret, so all datagrams have one nonce, which costs what any
/// other does and needs no order.
pub struct SealedWay {
    key: LessSafeKey,
    tags: [[u8; TAG]; TAGS],
}

impl SealedWay {
    pub fn new() -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("16 bytes");
        Self { key: LessSafeKey::new(key), tags: [[0; TAG]; TAGS] }
    }

    /// Seals a train of texts and sends it; what does not fit into the socket is lost.
    pub fn send(&mut self, socket: &UdpSocket, to: &SockaddrIn, train: &mut [u8]) {
        let alone = train.len() <= TEXT;
        let mut pieces = Vec::with_capacity(2 * TAGS);
        for (text, place) in train.chunks_mut(TEXT).zip(&mut self.tags) {
            let tag = self.key.seal_in_place_separate_tag(nonce(), Aad::empty(), text);
            place.copy_from_slice(tag.expect("a short text").as_ref());
            pieces.extend([IoSlice::new(text), IoSlice::new(place)]);
        }
        let segments = [ControlMessage::UdpGsoSegments(&SEGMENT)];
        let segments = if alone { &[] } else { &segments[..] };
        let _ = sendmsg(socket.as_raw_fd(), &pieces, segments, MsgFlags::empty(), Some(to));
    }

    /// Takes a train, if there is one, and opens it; returns the length of all texts together.
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
        // The tag of a short one begins where its text ends, and may reach over into its own place.
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
