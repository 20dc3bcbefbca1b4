//! Protocol buffers of MusicFS: the control API.
