//! Content between honest nodes.

use musicfs_core::extents::BLOCK_BYTES;

use super::memory::{content, version};
use super::nodes::*;
use super::*;

#[tokio::test]
async fn a_file_comes_over_by_its_manifest() {
    let (one, two) = (Node::new(10), Node::new(20));
    let bytes = content(1, 9_000_001);
    let manifest = two.memory.put(version(1), bytes.clone());
    let (ours, theirs) = one.meet(&two).await;
    let session = &ours.session;
    let got = soon(session.manifest(version(1), manifest.len))
        .await
        .unwrap();
    assert_eq!(got, manifest);
    let wanted = wanted(&manifest);
    let stream = session.chunks(version(1), wanted.clone());
    assert!(collect(stream).await.unwrap() == bytes);
    // Any of them, in any order, more than once.
    let (first, last) = (wanted[0], wanted[wanted.len() - 1]);
    let mut some = vec![last, first, first];
    some.extend(&wanted[3..9]);
    let expect: Vec<u8> = some
        .iter()
        .flat_map(|it| slice(&bytes, &manifest, *it))
        .collect();
    let stream = session.chunks(version(1), some.clone());
    assert!(collect(stream).await.unwrap() == expect);
    let sent = bytes.len() + expect.len();
    let chunks = (wanted.len() + some.len()) as u64;
    let (ours, theirs) = (ours.session.counters(), theirs.session.counters());
    assert_eq!((ours.bytes_in(), ours.chunks_in()), (sent as u64, chunks));
    assert_eq!((ours.bytes_out(), ours.chunks_out()), (0, 0));
    eventually("all is counted", || theirs.chunks_out() == chunks).await;
    assert_eq!((theirs.bytes_out(), theirs.bytes_in()), (sent as u64, 0));
}

fn slice(bytes: &[u8], manifest: &Manifest, chunk: WantedChunk) -> Vec<u8> {
    let mut spans = manifest.spans();
    let (_, span) = spans.find(|(hash, _)| *hash == chunk.hash).unwrap();
    bytes[span.start as usize..span.end as usize].to_vec()
}

#[tokio::test]
async fn ranges_come_of_what_is_held_in_part() {
    let (one, two) = (Node::new(10), Node::new(20));
    let bytes = content(2, 5_000_000);
    let held = [0..40 * BLOCK_BYTES, 60 * BLOCK_BYTES..5_000_000].into_iter();
    two.memory
        .put_ranges(version(1), bytes.clone(), held.collect());
    let (ours, _theirs) = one.meet(&two).await;
    let check = async |range: Range<u64>| {
        let got = collect(ours.session.range(version(1), range.clone()))
            .await
            .unwrap();
        assert!(
            got == bytes[range.start as usize..range.end as usize],
            "{range:?}"
        );
    };
    check(0..40 * BLOCK_BYTES).await;
    check(1..2).await;
    check(65_535..2_600_001).await;
    check(4_999_999..5_000_000).await;
    check(7..7).await;
    let not_held = async |range: Range<u64>| {
        let got = collect(ours.session.range(version(1), range)).await;
        assert!(matches!(got, Err(PeerError::NotHeld { .. })), "{got:?}");
    };
    not_held(40 * BLOCK_BYTES..40 * BLOCK_BYTES + 1).await;
    not_held(0..60 * BLOCK_BYTES).await;
    not_held(4_999_999..5_000_001).await;
    // Its manifest and chunks are not.
    let got = soon(ours.session.manifest(version(1), 5_000_000)).await;
    assert!(matches!(got, Err(PeerError::NotHeld { .. })), "{got:?}");
    assert_eq!(ours.session.counters().chunks_in(), 0);
}

#[tokio::test]
async fn both_ends_ask_and_serve_at_once() {
    let (one, two) = (Node::new(10), Node::new(20));
    let (here, there) = (content(3, 1_500_000), content(4, 1_500_000));
    let ours = wanted(&one.memory.put(version(1), here.clone()));
    let theirs = wanted(&two.memory.put(version(2), there.clone()));
    let (left, right) = one.meet(&two).await;
    // More streams than may ask at once.
    let asking = (0..15).map(|_| {
        let up = collect(left.session.chunks(version(2), theirs.clone()));
        let down = collect(right.session.chunks(version(1), ours.clone()));
        let (there, here) = (there.clone(), here.clone());
        tokio::spawn(async move {
            let (up, down) = tokio::join!(up, down);
            assert!(up.unwrap() == there && down.unwrap() == here);
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        soon(asked).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_held_any_more_is_told_so() {
    let (one, two) = (Node::new(10), Node::new(20));
    let bytes = content(5, 3_000_000);
    let wanted = wanted(&two.memory.put(version(1), bytes.clone()));
    let (ours, _theirs) = one.meet(&two).await;
    let session = &ours.session;
    // Never was.
    let got = collect(session.chunks(version(9), wanted.clone())).await;
    assert!(matches!(got, Err(PeerError::NotHeld { .. })), "{got:?}");
    let got = collect(session.chunks(
        version(1),
        vec![
            wanted[0],
            WantedChunk {
                hash: musicfs_core::manifest::ChunkHash([9; 32]),
                len: 5,
            },
        ],
    ));
    let got = got.await;
    assert!(matches!(got, Err(PeerError::NotHeld { .. })), "{got:?}");
    // Goes while it is being sent.
    two.memory.set_reads_left(2);
    let got = collect(session.chunks(version(1), wanted.clone())).await;
    assert!(matches!(got, Err(PeerError::NotHeld { .. })), "{got:?}");
    two.memory.set_reads_left(usize::MAX);
    assert!(
        collect(session.chunks(version(1), wanted.clone()))
            .await
            .unwrap()
            == bytes
    );
    // Goes for good: the table of its chunks does, too.
    two.memory.remove(version(1));
    let got = collect(session.chunks(version(1), wanted)).await;
    assert!(matches!(got, Err(PeerError::NotHeld { .. })), "{got:?}");
}

#[tokio::test]
async fn a_version_with_another_content_is_served_by_its_new_table() {
    let (one, two) = (Node::new(10), Node::new(20));
    two.memory.put(version(1), content(6, 500_000));
    let (ours, _theirs) = one.meet(&two).await;
    let old = soon(ours.session.manifest(version(1), 500_000))
        .await
        .unwrap();
    collect(ours.session.chunks(version(1), wanted(&old)))
        .await
        .unwrap();
    let bytes = content(7, 500_000);
    two.memory.remove(version(1));
    let new = two.memory.put(version(1), bytes.clone());
    // Served as soon as the change has been heard of.
    let asked = || async {
        let got = collect(ours.session.chunks(version(1), wanted(&new))).await;
        got.is_ok_and(|got| got == bytes)
    };
    soon(async { while !asked().await {} }).await;
    let got = collect(ours.session.chunks(version(1), wanted(&old))).await;
    assert!(matches!(got, Err(PeerError::NotHeld { .. })), "{got:?}");
}

#[tokio::test]
async fn a_ping_comes_back() {
    let (one, two) = (Node::new(10), Node::new(20));
    let (ours, theirs) = one.meet(&two).await;
    for end in [&ours, &theirs] {
        let took = soon(end.session.ping()).await.unwrap();
        assert!(took > Duration::ZERO);
        assert!(end.session.rtt() > Duration::ZERO);
    }
    assert_eq!(
        ours.session.remote_address(),
        two.endpoint.local_addr().unwrap()
    );
}

#[tokio::test]
async fn when_the_connection_is_gone_all_requests_say_so() {
    let (one, two) = (Node::new(10), Node::new(20));
    let bytes = content(8, 8_000_000);
    let wanted = wanted(&two.memory.put(version(1), bytes));
    let (ours, theirs) = one.meet(&two).await;
    two.memory.set_open(false);
    let stream = tokio::spawn(collect(ours.session.chunks(version(1), wanted.clone())));
    eventually("it is served", || *theirs.session.serving.borrow() > 0).await;
    theirs.session.close(CloseCode::Ending);
    assert_eq!(theirs.ended().await, Ended::Closed);
    let got = soon(stream).await.unwrap();
    assert!(matches!(got, Err(PeerError::Gone { .. })), "{got:?}");
    let session = ours.session.clone();
    assert_eq!(
        ours.ended().await,
        Ended::Left(Left::For(CloseCode::Ending))
    );
    let got = soon(session.ping()).await;
    assert!(matches!(got, Err(PeerError::Gone { .. })), "{got:?}");
    let got = soon(session.manifest(version(1), 5)).await;
    assert!(matches!(got, Err(PeerError::Gone { .. })), "{got:?}");
    let got = collect(session.chunks(version(1), wanted)).await;
    assert!(matches!(got, Err(PeerError::Gone { .. })), "{got:?}");
    assert_eq!(
        (session.held(version(1)), session.objects_count()),
        (None, 0)
    );
}

#[tokio::test]
async fn who_leaves_finishes_what_it_serves() {
    let (one, two) = (Node::new(10), Node::new(20));
    let bytes = content(9, 900_000);
    let wanted = wanted(&two.memory.put(version(1), bytes.clone()));
    let (ours, theirs) = one.meet(&two).await;
    eventually("it is announced", || ours.session.objects_count() == 1).await;
    two.memory.set_open(false);
    let stream = tokio::spawn(collect(ours.session.chunks(version(1), wanted.clone())));
    eventually("it is served", || *theirs.session.serving.borrow() == 1).await;
    let leaving = theirs.session.clone();
    let leaving = tokio::spawn(async move { leaving.leave(PATIENCE).await });
    eventually("goodbye was heard", || ours.session.objects_count() == 0).await;
    let got = collect(ours.session.chunks(version(1), wanted)).await;
    assert!(matches!(got, Err(PeerError::Busy { .. })), "{got:?}");
    two.memory.set_open(true);
    assert!(soon(stream).await.unwrap().unwrap() == bytes);
    soon(leaving).await.unwrap();
    assert_eq!(
        ours.ended().await,
        Ended::Left(Left::For(CloseCode::Ending))
    );
}
