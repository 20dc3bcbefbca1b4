//! A place for asynchronous work, apart from the runtime of the test.

use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::host::Host;

/// A runtime on a thread of its own: it can be waited for and dropped anywhere, inside another
/// runtime too. Dropping it ends its tasks.
#[derive(Debug)]
pub(super) struct Reactor {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reactor {
    /// Starts the thread; what it connects and listens with is on `host`.
    pub(super) fn start(name: &str, host: &Host) -> Self {
        let (handle_tx, handle_rx) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.to_owned());
        let host = host.clone();
        let thread = thread.spawn(move || {
            host.enter();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            handle_tx.send(runtime.handle().clone()).unwrap();
            // Dropping the sender ends it as well.
            let _ = runtime.block_on(stopped);
        });
        Self {
            handle: handle_rx.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread.unwrap()),
        }
    }

    /// Lets `future` run until it or the reactor ends.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(future);
    }

    /// Runs `future` to its end, which this thread waits for.
    ///
    /// # Panics
    /// If the future does.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (result_tx, result_rx) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // Nobody waits any more if the waiting thread panicked.
            let _ = result_tx.send(future.await);
        });
        result_rx.recv().expect("the work on the reactor panicked")
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
