//! Tags, audio properties and artwork from ranged reads. Pure.
