//! The origin in simulated time: encoders with every usual rate, delay and fault, and the rules checked on all frames.
mod epochs;
mod rates;
mod tracks;
mod world;
