//! The planner before a simulated store and simulated flights.

mod model;
mod play;
mod rules;
mod world;
