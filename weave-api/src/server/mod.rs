//! Answering as a router does: listeners, and what keeps web pages out.

mod fields;
mod guard;
mod refusal;
mod serve;

pub use fields::Fields;
pub use guard::Names;
pub use refusal::Refusal;
pub use serve::{Listener, MAX_CONNECTIONS, serve};
