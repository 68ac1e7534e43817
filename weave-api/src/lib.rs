//! What a weave router and its clients say to each other over HTTP.
//!
//! ```text
//!               ┌────────────── weave-api ──────────────┐
//!  commands, ──▶│ client   Address   report   text      │◀── the router
//!  CNI plugin   │          Template  metrics  server    │
//!               └───────────────────────────────────────┘
//! ```
//!
//! Without features there are the types alone: the [report](report::Report) and the [texts](text)
//! made from it, [metrics](metric::Metric), and [templates](template::Template) as `weave report
//! --format` takes them. The feature `client` adds the client, `server` what answers.
//!
//! ```
//! use weave_api::report::Report;
//! use weave_api::template::Template;
//!
//! let mut report = Report::default();
//! report.router.nick_name = "h1".to_owned();
//! let template = Template::parse("{{.Router.NickName}}").unwrap();
//! let data = serde_json::to_value(&report).unwrap();
//! assert_eq!(template.render(&data).unwrap(), "h1");
//! ```

#![forbid(unsafe_code)]

mod address;
mod bool_flag;
#[cfg(feature = "client")]
pub mod client;
mod code;
mod detail;
pub mod json;
pub mod metric;
pub mod report;
#[cfg(feature = "server")]
pub mod server;
pub mod template;
pub mod text;

pub use address::{Address, AddressError};
pub use bool_flag::parse as parse_bool;
pub use code::{ERROR_HEADER, ErrorCode};
pub use detail::Detail;

/// Who holds the addresses of the host, where the allocator is asked for them and lists them; the name
/// is that of Weave Net.
pub const HOST_HOLDER: &str = "weave:expose";
