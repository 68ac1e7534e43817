//! The golden vectors, and many allocators together.

mod ring;
mod scenarios;
mod sim;
mod space;
mod vectors;
mod vote;
