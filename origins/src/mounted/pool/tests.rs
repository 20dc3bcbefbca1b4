use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::*;

/// No test waits for so long unless it fails.
const LONG: Duration = Duration::from_secs(60);

fn pool(patience: Duration) -> Pool {
    Pool::new("mnt test".to_owned(), patience)
}

fn start<T: Send + 'static>(
    pool: &Pool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Call<T>, OriginError> {
    pool.start("try", &OriginPath::default(), move || Ok(work()))
}

#[tokio::test]
async fn a_call_that_panics_is_an_error_and_its_thread_goes_on() {
    let pool = pool(LONG);
    for _ in 0..2 * THREADS_MAX {
        let call = start(&pool, || panic!("on purpose")).unwrap();
        let outcome: Result<(), _> = call.wait().await;
        assert!(matches!(outcome, Err(OriginError::Io { .. })));
    }
    assert_eq!(start(&pool, || 7).unwrap().wait().await.unwrap(), 7);
    assert!(pool.shared.lock().threads_count <= THREADS_MAX);
}

#[tokio::test]
async fn a_call_that_makes_progress_is_waited_for() {
    let pool = pool(Duration::from_millis(20));
    let (tx, rx) = mpsc::channel();
    let call = start(&pool, move || rx.recv().unwrap()).unwrap();
    let asked = Cell::new(0);
    let progress = || {
        asked.set(asked.get() + 1);
        if asked.get() == 5 {
            tx.send("done").unwrap();
        }
        asked.get()
    };
    assert_eq!(call.wait_while(progress).await.unwrap(), "done");

    let (tx, rx) = mpsc::channel::<()>();
    let stuck = start(&pool, move || rx.recv().is_ok()).unwrap();
    let outcome = stuck.wait_while(|| 3).await;
    assert!(matches!(outcome, Err(OriginError::TimedOut { .. })));
    drop(tx);
}

#[tokio::test]
async fn a_call_given_up_before_its_turn_never_runs() {
    let pool = pool(LONG);
    let mut held = Vec::new();
    for _ in 0..THREADS_MAX {
        let (tx, rx) = mpsc::channel::<()>();
        held.push((tx, start(&pool, move || rx.recv().is_ok()).unwrap()));
    }
    let has_run = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&has_run);
    drop(start(&pool, move || flag.store(true, Ordering::SeqCst)).unwrap());
    let last = start(&pool, || ()).unwrap();
    for (tx, call) in held {
        drop(tx);
        assert!(!call.wait().await.unwrap());
    }
    last.wait().await.unwrap();
    // Its turn has come: what it held is gone, or about to be.
    let start = Instant::now();
    while Arc::strong_count(&has_run) > 1 {
        assert!(start.elapsed() < LONG);
        tokio::task::yield_now().await;
    }
    assert!(!has_run.load(Ordering::SeqCst));
}

#[tokio::test]
async fn what_is_left_when_the_pool_goes_is_dropped_all_the_same() {
    let pool = Arc::new(pool(LONG));
    let alive = Arc::new(());
    let mut things = Vec::new();
    for _ in 0..3 * THREADS_MAX {
        things.push(OnPool::new(Arc::clone(&alive), &pool));
    }
    let shared = Arc::downgrade(&pool.shared);
    drop((things, pool));
    let start = Instant::now();
    while Arc::strong_count(&alive) > 1 || shared.strong_count() > 0 {
        assert!(start.elapsed() < LONG, "something lives on");
        tokio::task::yield_now().await;
    }
}
