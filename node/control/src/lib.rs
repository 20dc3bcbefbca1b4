//! The control surface: gRPC services, health and reflection on a unix socket.
