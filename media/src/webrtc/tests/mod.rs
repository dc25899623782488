//! A publisher and a viewer that are str0m themselves, through the cores, in simulated time, over a network that loses.
mod publishing;
mod watching;
mod world;
