//! The path template.
