//! The gateway as clients meet it: real documents through the router, over real records in memory.
mod console;
mod documents;
mod house;
mod limits;
mod sockets;
