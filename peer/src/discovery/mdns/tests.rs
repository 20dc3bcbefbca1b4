//! On loopback, beside whatever else speaks there.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};

use rustix::net::sockopt;

use super::*;
use crate::cluster::testing::cluster_key;
use crate::mesh::tasks::Tasks;

/// Far longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that speaks on loopback, and what it finds.
struct Speaker {
    tasks: Tasks,
    found: mpsc::Receiver<Event>,
}

impl Speaker {
    fn start(port: u16, bounds: Bounds) -> Self {
        let (sender, found) = mpsc::channel(64);
        let service = Service {
            listen: (Ipv4Addr::LOCALHOST, port).into(),
            interfaces: vec!["lo".to_owned()],
            tag_key: TagKey::of_cluster(&cluster_key(77)),
            bounds,
        };
        let tasks = Tasks::default();
        tasks.spawn_to_its_end(run(service, sender, tasks.stop().clone()));
        Self { tasks, found }
    }

    /// The ports at which the next service that it tells of is; none if that one is gone.
    async fn next(&mut self) -> BTreeSet<u16> {
        let told = tokio::time::timeout(PATIENCE, self.found.recv()).await;
        match told.expect("it hears something") {
            Some(Event::Found { addresses, .. }) => {
                addresses.iter().map(SocketAddr::port).collect()
            }
            _ => panic!("something else was told"),
        }
    }

    async fn stop(self) {
        self.tasks.stop().cancel();
        tokio::time::timeout(PATIENCE, self.tasks.ended())
            .await
            .unwrap();
    }
}

/// A name in a message of DNS (RFC 1035 section 3.1).
fn name(labels: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in labels {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// The announcement of a service that looks like one of ours, with a tag that is none.
fn forged(number: u32) -> Vec<u8> {
    let label = format!("{number:032x}");
    let service = name(&["_musicfs", "_udp", "local"]);
    let instance = name(&[&label, "_musicfs", "_udp", "local"]);
    let host = name(&[&label, "local"]);
    let texts = [
        "v=1".to_owned(),
        "port=666".to_owned(),
        format!("mac={label}"),
    ];
    let texts: Vec<u8> = texts
        .iter()
        .flat_map(|text| [&[text.len() as u8], text.as_bytes()].concat())
        .collect();
    let place = [&[0, 0, 0, 0], &666u16.to_be_bytes()[..], &host].concat();
    let records = [
        (&service, 12u16, instance.clone()),
        (&instance, 33, place),
        (&instance, 16, texts),
        (&host, 1, vec![127, 6, 6, 6]),
    ];
    // A response of authority, with four answers.
    let mut message = vec![0, 0, 0x84, 0, 0, 0, 0, records.len() as u8, 0, 0, 0, 0];
    for (name, kind, data) in records {
        message.extend(name);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0x10, 0]);
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    message
}

#[tokio::test]
async fn forged_services_are_neither_told_nor_kept() {
    let bounds = Bounds {
        records_count_max: 64,
        pause_min: Duration::from_millis(10),
    };
    let mut one = Speaker::start(1111, bounds);
    let other = Speaker::start(2222, Bounds::default());
    assert_eq!(one.next().await, [2222].into());
    let liar = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    sockopt::set_ip_multicast_if(&liar, &Ipv4Addr::LOCALHOST).unwrap();
    for number in 0..100 {
        liar.send_to(&forged(number), (Ipv4Addr::new(224, 0, 0, 251), 5353))
            .unwrap();
    }
    // It throws away what it heard, with the good, and begins anew.
    let mut told = one.next().await;
    while !told.is_empty() {
        assert_eq!(told, [2222].into());
        told = one.next().await;
    }
    assert_eq!(one.next().await, [2222].into());
    other.stop().await;
    let mut told = one.next().await;
    while !told.is_empty() {
        assert_eq!(told, [2222].into(), "nothing forged was ever told");
        told = one.next().await;
    }
    one.stop().await;
}
