//! Commands that must end by themselves, and what they may say.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use crate::wait_for;

/// A process that is killed if the test ends before it.
pub struct Guarded(pub Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end, but not for ever; tells the exit code and standard error.
///
/// # Panics
/// If it does not end, here and below.
pub fn outcome(mut command: Command) -> Output {
    let errors = tempfile::NamedTempFile::new().unwrap();
    let output = errors.reopen().unwrap();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output);
    let mut child = Guarded(command.spawn().unwrap());
    let (status, _) = wait_for("the command's end", || child.0.try_wait().unwrap());
    Output {
        status,
        stdout: Vec::new(),
        stderr: fs::read(errors.path()).unwrap(),
    }
}

/// Runs a command that must refuse: with this exit code and one line that holds all of `words`.
pub fn refused(command: Command, code: i32, words: &[&str]) {
    let shown = format!("{command:?}");
    let output = outcome(command);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{shown}: {text}");
    assert_no_trace(&text);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("musicfs: "))
        .collect();
    let [line] = lines[..] else {
        panic!("{shown} said {} lines: {text}", lines.len())
    };
    for word in words {
        assert!(line.contains(word), "{shown}: {word:?} is not in: {line}");
    }
}

/// Asserts that no panic and no stack trace is in `text`.
///
/// # Panics
/// If one is.
pub fn assert_no_trace(text: &str) {
    for trace in ["panicked at", "stack backtrace", "RUST_BACKTRACE"] {
        assert!(!text.contains(trace), "{text}");
    }
}
