//! Answering as a router does: listeners, and what keeps web pages out.

mod fields;
mod guard;
mod serve;

pub use fields::Fields;
pub use guard::Names;
pub use serve::{Listener, MAX_CONNECTIONS, serve};
