//! Two sources with the same bytes.

#![expect(
    clippy::single_range_in_vec_init,
    reason = "one request of a range is meant"
)]

use super::*;

struct Two {
    origins: [Arc<Scripted>; 2],
    fetcher: Arc<Fetcher>,
    _dir: tempfile::TempDir,
}

fn two(size: usize) -> Two {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    store.recover().unwrap();
    let content = Arc::new(content(size));
    let origins = ["a", "b"].map(|id| scripted(id, &content));
    let fetcher = fetcher(store, FetchOptions::default(), &origins);
    Two {
        origins,
        fetcher,
        _dir: dir,
    }
}

impl Two {
    async fn file(&self) -> Arc<RemoteFile> {
        let [first, second] = &self.origins;
        let others = vec![found(second, 8)];
        self.fetcher.file(found(first, 7), others).await.unwrap()
    }

    fn script(&self, origin: usize, steps: &[Script]) {
        self.origins[origin].script.lock().unwrap().extend(steps);
    }

    fn asked(&self, origin: usize) -> Vec<Range<u64>> {
        self.origins[origin].asked.lock().unwrap().clone()
    }

    fn expected(&self, offset: usize, len: usize) -> &[u8] {
        &self.origins[0].content[offset..offset + len]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_source_goes_on_at_the_byte_where_the_first_stopped() {
    let two = two(2 * MIB);
    let kept = 4 * PIECE_LEN;
    two.script(0, &[Script::FailAfter(kept)]);
    let handle = two.file().await.open();
    let got = handle.read(0, DEMANDED).await.unwrap();
    assert_eq!(got, two.expected(0, DEMANDED));
    let end = DEMANDED as u64;
    assert_eq!(two.asked(0), [0..end]);
    assert_eq!(two.asked(1), [kept..end]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_again_and_again_is_not_asked_first_any_more() {
    let two = two(8 * MIB);
    two.script(0, &[Script::Fail; 3]);
    let handle = two.file().await.open();
    // Far apart: nothing is read ahead.
    for step in [0, 3, 6, 1] {
        let got = handle.read((step * MIB) as u64, 1000).await.unwrap();
        assert_eq!(got, two.expected(step * MIB, 1000));
    }
    assert_eq!(two.asked(0).len(), 3, "it has three tries");
    assert_eq!(two.asked(1).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_other_content_is_left_without_a_word() {
    let two = two(2 * MIB);
    two.script(0, &[Script::Changed]);
    let handle = two.file().await.open();
    let got = handle.read(500_000, 1000).await.unwrap();
    assert_eq!(got, two.expected(500_000, 1000));
    assert_eq!(two.asked(1).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_says_nothing_is_left_while_the_read_waits() {
    let two = two(2 * MIB);
    two.origins[0].pace.forget_permits(usize::MAX);
    let handle = two.file().await.open();
    let got = handle.read(0, 1000).await.unwrap();
    assert_eq!(got, two.expected(0, 1000));
    assert_eq!((two.asked(0).len(), two.asked(1).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_found_later_serves_files_that_are_open() {
    let two = two(2 * MIB);
    let [first, second] = &two.origins;
    let file = two.fetcher.file(found(first, 7), Vec::new()).await.unwrap();
    let handle = file.open();
    handle.read(0, 1000).await.unwrap();
    let again = two.file().await;
    assert!(Arc::ptr_eq(&file, &again));
    // Told twice, it is still one source.
    let others = vec![found(second, 8)];
    two.fetcher.file(found(first, 7), others).await.unwrap();
    assert_eq!(file.sources().len(), 2);
    two.script(0, &[Script::Fail]);
    let got = handle.read(MIB as u64, 1000).await.unwrap();
    assert_eq!(got, two.expected(MIB, 1000));
    assert_eq!(two.asked(1).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_both_fail_the_read_fails_with_the_last_reason() {
    let two = two(MIB);
    two.script(0, &[Script::Changed]);
    two.script(1, &[Script::Changed]);
    let error = two.file().await.open().read(0, 100).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale);
    assert!(error.to_string().contains("origin b"), "{error}");
}
