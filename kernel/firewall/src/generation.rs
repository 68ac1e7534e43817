//! Whether anything in nftables has changed: the kernel counts the changes of each network
//! namespace (`linux/netfilter/nf_tables.h`).
//!
//! ```text
//!   request, NFT_MSG_GETGEN   nlmsghdr | u8 family | u8 version | be16 0 |
//!   answer, NFT_MSG_NEWGEN    nlmsghdr | the same | attributes: 1 NFTA_GEN_ID be32, others |
//! ```
//!
//! One request costs some microseconds, where a program that lists a chain costs milliseconds, and
//! more the more rules there are.

use weave_netlink::{
    Answer, Attributes, DecodeError, Error, Exchange, HEADER_LEN, Protocol, Socket, write_header,
};

use crate::backend::Backend;
use crate::error::FirewallError;
use crate::outcome::Outcome;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN`.
const NEW_GENERATION: u16 = 0x0a0f;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN`.
const GET_GENERATION: u16 = 0x0a10;
/// `NFTA_GEN_ID`.
const ID: u16 = 1;
/// What follows the header of each message of netfilter, `nfgenmsg`.
const FAMILY_LEN: usize = 4;
/// For errors.
const REQUEST: &str = "ask for the generation of nftables";

/// The number of the last change of nftables in a network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation(u32);

/// The rules that were found in order when they were looked at last, and the generation they had.
#[derive(Debug)]
pub(crate) struct InOrder<R>(Option<(Generation, R)>);

impl<R> Default for InOrder<R> {
    fn default() -> Self {
        Self(None)
    }
}

impl<R: Clone + PartialEq> InOrder<R> {
    /// Looks at the rules, unless nobody has changed any since they were found in order.
    pub(crate) fn or_look(
        &mut self,
        backend: Backend,
        rules: &R,
        look: impl FnOnce() -> Result<Outcome, FirewallError>,
    ) -> Result<Outcome, FirewallError> {
        // Asked for first: what changes while the rules are read is seen at the next look.
        let generation = Generation::now(backend);
        if let (Some(now), Some((then, same))) = (generation, &self.0)
            && now == *then
            && rules == same
        {
            return Ok(Outcome::InOrder);
        }
        self.0 = None;
        let outcome = look()?;
        if outcome == Outcome::InOrder {
            self.0 = generation.map(|generation| (generation, rules.clone()));
        }
        Ok(outcome)
    }
}

impl Generation {
    /// Returns that of now; none if this kernel does not say it.
    pub fn current() -> Option<Self> {
        Self::now(Backend::Nftables)
    }

    /// Returns whether this is the next one after another: there was one change between them.
    pub const fn follows(self, other: Self) -> bool {
        self.0 == other.0.wrapping_add(1)
    }

    /// That of now; `None` where the rules are elsewhere, or if this kernel does not say it.
    fn now(backend: Backend) -> Option<Self> {
        match backend {
            Backend::IptablesNft | Backend::Nftables => {
                Self::ask().map_err(|error| tracing::debug!("{error}")).ok()
            }
            Backend::IptablesLegacy | Backend::None => None,
        }
    }

    fn ask() -> Result<Self, Error> {
        let socket = Socket::open(Protocol::Netfilter)
            .map_err(|source| Error::Socket { request: REQUEST, source })?;
        let mut exchange = Exchange::new(socket);
        exchange.send(REQUEST, |sequence, message| {
            message.resize(HEADER_LEN + FAMILY_LEN, 0);
            write_header(message, GET_GENERATION, 0, sequence)
        })?;
        exchange.wait_for(REQUEST, |answer| match answer {
            Answer::Entry { kind: NEW_GENERATION, payload } => Self::decode(payload).map(Some),
            Answer::Entry { .. } | Answer::Acknowledged => Ok(None),
        })
    }

    /// Reads what follows the header of the kernel's answer to `NFT_MSG_GETGEN`.
    ///
    /// # Errors
    /// It ends too early, or has no number.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let (what, left) = ("a header of netfilter", payload.len());
        let attributes = payload.get(FAMILY_LEN..);
        let attributes =
            attributes.ok_or(DecodeError::Short { what, offset: 0, needed: FAMILY_LEN, left })?;
        for field in Attributes::new(attributes, FAMILY_LEN) {
            let field = field?;
            if field.kind == ID {
                return field.array("a generation").map(u32::from_be_bytes).map(Self);
            }
        }
        Err(DecodeError::Missing { what: "generation" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_kernel() {
        let [eight, nine] = [8_u16, 9].map(u16::to_ne_bytes);
        let [one, two, three] = [1_u16, 2, 3].map(u16::to_ne_bytes);
        // Linux 6.12: number, process and name of the program that made the last change.
        let answer = [
            &[0, 0, 0, 0x29][..],
            &[eight, one].concat(),
            &[0, 0, 1, 0x29],
            &[eight, two].concat(),
            &[0, 0, 0x40, 0x7b],
            &[nine, three].concat(),
            b"nft\0\0\0\0\0",
        ]
        .concat();
        assert_eq!(Generation::decode(&answer), Ok(Generation(0x129)));
        for length in 0..12 {
            assert!(Generation::decode(&answer[..length]).is_err(), "{length} bytes");
        }
        let nameless = [&answer[..4], &answer[12..20]].concat();
        assert_eq!(Generation::decode(&nameless), Err(DecodeError::Missing { what: "generation" }));
    }
}
