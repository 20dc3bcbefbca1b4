//! Harness and suites: model, real mount, real servers, crash; benchmarks.
