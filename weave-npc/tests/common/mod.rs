//! Random clusters, as the API server would tell of them.
#![allow(dead_code, reason = "each test uses its own part")]

pub mod api;
pub mod dice;
pub mod host;
pub mod nft;
pub mod oracle;
pub mod scenario;
pub mod world;
