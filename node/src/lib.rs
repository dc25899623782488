//! The shoal program: one process that is a whole node of a live-video delivery network with no centre.
//!
//! A bird's eye view. A streamer's frames enter at any node (`media::rtmp`), where their time is settled and every cut is
//! stamped once (`media::origin`). They are kept in a bounded window (`media::live`), go to other nodes on demand
//! (`media::relay`) and to viewers as playlists and segments that are the same bytes at every node (`media::pack`,
//! `media::http`). Who is here, what they hold and what is agreed comes from `mesh`; `routing` ranks, `dns` and `api` answer.
//! This crate knows them all and is the only one that does.
//!
//! # Map
//! - [`cli`], [`commands`], [`terminal`]: what people type and see. [`config`]: the configuration file.
//! - [`setup`]: founding and joining. [`run`]: a node from start to stop. [`demo`]: three of them on one machine.
//! - [`house`]: the crates' questions answered from records and view.
//! - `sockets`: what a node opens before anything else. [`listen`], [`http`], [`local`]: how, and what they serve. `control`: the mesh's own thread. [`certs`]: the mesh's own certificates. [`load`]: what the machine does.
//! - [`docs`]: the guide at `/docs`, from `node/guide`.
//! - [`meters`]: the numbers at `/metrics`.
//! - [`clock`]: the one place that asks the operating system for the time. [`http_client`]: for own nodes.
//!
//! # Invariants
//! - Decisions live in the other crates; here is only wiring, and what touches the operating system.
//! - A port that is taken, a directory that cannot be used, a setting that is wrong: said before anything starts.
//! - A stop leaves nothing behind: every task belongs to the house's stop signal.
//!
//! # Example
//! ```
//! use std::path::Path;
//! let error = shoal::config::Config::parse(Path::new("shoal.toml"), "[listen]\nhtpp = false\n").unwrap_err();
//! assert!(error.to_string().starts_with("shoal.toml:2: htpp"));
//! ```
pub mod certs;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
mod control;
pub mod demo;
pub mod docs;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod house;
pub mod http;
pub mod http_client;
pub mod listen;
pub mod load;
pub mod local;
pub mod meters;
pub mod run;
pub mod setup;
mod sockets;
pub mod terminal;
pub mod webrtc;
