//! The planner under a simulated store and simulated flights.
