//! Batches of messages (recvmmsg(2), sendmmsg(2)), for sockets of any family.
//!
//! ```text
//!   header ──▶ vector ──▶ the bytes of one message
//!          ──▶ name, the address of the other side
//!          ──▶ control messages
//! ```

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::c_uint;

use super::{check, size};

/// Largest number of messages per call.
pub const MAX_BATCH: usize = 64;

/// Room for control messages, aligned like their header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Control<const LEN: usize>(pub [u8; LEN]);

/// A received message.
pub struct Received<'a, N> {
    /// Number of its bytes in its slot.
    pub length: usize,
    /// The header as the kernel left it: flags, control messages, length of the name.
    pub header: &'a libc::msghdr,
    /// The sender, as far as the header says that it is initialised.
    pub name: &'a MaybeUninit<N>,
}

/// Receives the messages at hand without waiting, up to `count`, into equal slots of the buffer,
/// and passes each with its index to `each`. `N` is the address type of the family.
///
/// # Errors
/// No message could be received, as a rule because none is there.
pub fn receive<N, const CONTROL: usize>(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    count: usize,
    mut each: impl FnMut(usize, &Received<'_, N>),
) -> io::Result<usize> {
    let count = count.min(MAX_BATCH);
    let slot = buffer.len() / count.max(1);
    let mut names = [const { MaybeUninit::<N>::uninit() }; MAX_BATCH];
    let mut controls = [const { MaybeUninit::<Control<CONTROL>>::uninit() }; MAX_BATCH];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_BATCH];
    let slots = buffer.chunks_exact_mut(slot);
    for ((((header, vector), name), control), slot) in headers
        .iter_mut()
        .zip(&mut vectors)
        .zip(&mut names)
        .zip(&mut controls)
        .zip(slots)
        .take(count)
    {
        let vector =
            vector.write(libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() });
        // SAFETY: zero is a value of each of its fields.
        let header = header.write(unsafe { zeroed() });
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = name.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = size::<N>();
        header.msg_hdr.msg_control = control.as_mut_ptr().cast();
        // C libraries have different types for lengths, and for the flags below.
        header.msg_hdr.msg_controllen = CONTROL as _;
    }
    // SAFETY: the first `count` headers are initialised; each points to one vector over one slot
    // of the buffer, to one name and to one control buffer, all of which live until the call is
    // over.
    let taken = check(unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as c_uint,
            libc::MSG_DONTWAIT as _,
            ptr::null_mut(),
        )
    })?;
    let taken = usize::try_from(taken).expect("checked not to be negative");
    for (index, (header, name)) in headers.iter().zip(&names).take(taken).enumerate() {
        // SAFETY: initialised above, as far as the kernel got.
        let header = unsafe { header.assume_init_ref() };
        let length = (header.msg_len as usize).min(slot);
        each(index, &Received { length, header: &header.msg_hdr, name });
    }
    Ok(taken)
}

/// Sends messages without waiting, up to a batch, and returns how many were sent. `complete` gets
/// the index and the header of each, to add a name and control messages.
///
/// # Errors
/// The first message could not be sent.
///
/// # Safety
/// Whatever `complete` makes a header point to has the length that the header says, and stays valid
/// until this function returns.
pub unsafe fn send<'b>(
    fd: BorrowedFd<'_>,
    messages: impl Iterator<Item = &'b [u8]>,
    mut complete: impl FnMut(usize, &mut libc::msghdr),
) -> io::Result<usize> {
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_BATCH];
    let mut count = 0;
    for ((header, vector), message) in headers.iter_mut().zip(&mut vectors).zip(messages) {
        let vector = vector.write(libc::iovec {
            iov_base: message.as_ptr().cast_mut().cast(),
            iov_len: message.len(),
        });
        // SAFETY: zero is a value of each of its fields.
        let header = header.write(unsafe { zeroed() });
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        complete(count, &mut header.msg_hdr);
        count += 1;
    }
    // SAFETY: the first `count` headers are initialised; what they point to lives until the call
    // is over, and the kernel only reads it.
    let sent = check(unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as c_uint,
            libc::MSG_DONTWAIT as _,
        )
    })?;
    Ok(usize::try_from(sent).expect("checked not to be negative"))
}
