//! The lab measured with programs that know nothing of it.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use shoal_tests::{
    lab::{Host, Lab, Running, ip, timed, until},
    wire::Link,
};

const S: Duration = Duration::from_secs(1);

/// The best of five round trips of a datagram from one host to another address and back.
fn round_trip(from: &Host, to: &Host, address: IpAddr) -> Duration {
    let echo = to.inside(|| UdpSocket::bind((address, 7)).unwrap());
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let client = from.inside(|| UdpSocket::bind((any, 0)).unwrap());
    for socket in [&echo, &client] {
        socket.set_read_timeout(Some(2 * S)).unwrap();
    }
    client.connect((address, 7)).unwrap();
    let once = |_| {
        let mut buffer = [0; 16];
        let go = || {
            client.send(b"fish").unwrap();
            let (n, back) = echo.recv_from(&mut buffer)?;
            echo.send_to(&buffer[..n], back)?;
            client.recv(&mut buffer)
        };
        let (done, took) = timed(go);
        done.map(|_| took)
    };
    // The first one also pays for finding the address.
    (0..6).map(once).skip(1).map(Result::unwrap).min().unwrap()
}

#[test]
fn round_trips_show_the_delay_of_each_link() {
    let Some(mut lab) = Lab::or_skip(1) else {
        return;
    };
    let (a, b, c) = (
        lab.host("a").unwrap(),
        lab.host("b").unwrap(),
        lab.host("c").unwrap(),
    );
    lab.wire().set("a", "b", Link::delay_ms(40));
    for (to, address, want) in [
        (&b, b.v4().into(), 80),
        (&b, b.v6().into(), 80),
        (&c, c.v4().into(), 0),
    ] {
        let took = round_trip(&a, to, address);
        let want = Duration::from_millis(want);
        assert!(
            want <= took && took < want + Duration::from_millis(15),
            "{address}: {took:?}, expected {want:?}"
        );
    }
}

#[test]
fn a_tenth_of_the_datagrams_is_lost_where_that_is_asked() {
    let Some(mut lab) = Lab::or_skip(2) else {
        return;
    };
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    let receiver = b.inside(|| UdpSocket::bind((b.v4(), 9)).unwrap());
    let sender = a.inside(|| UdpSocket::bind((a.v4(), 0)).unwrap());
    sender.connect((b.v4(), 9)).unwrap();
    receiver.set_read_timeout(Some(S)).unwrap();
    let mut arrived = 0;
    for loss in [0.0, 0.1] {
        lab.wire().set_one_way(
            "a",
            "b",
            Link {
                loss,
                ..Link::default()
            },
        );
        arrived = 0;
        let mut buffer = [0; 64];
        // In small rounds, so that no socket's buffer is what loses.
        for _ in 0..40 {
            (0..50).for_each(|_| assert_eq!(sender.send(b"fish").unwrap(), 4));
            receiver
                .set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            arrived += (0..50)
                .take_while(|_| receiver.recv(&mut buffer).is_ok())
                .count();
        }
        if loss == 0.0 {
            assert_eq!(arrived, 2000, "a perfect cable loses nothing");
        }
    }
    assert!(
        (1_730..1_870).contains(&arrived),
        "{arrived} of 2000 arrived"
    );
}

#[test]
fn a_silent_cut_is_a_black_hole_and_heals() {
    let Some(mut lab) = Lab::or_skip(3) else {
        return;
    };
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    let listener = b.inside(|| TcpListener::bind((b.v4(), 80)).unwrap());
    let mut client = a.inside(|| TcpStream::connect((b.v4(), 80)).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    lab.wire().cut("a", "b");
    client.write_all(b"into the dark").unwrap();
    server.set_read_timeout(Some(S)).unwrap();
    let error = server.read(&mut [0; 64]).unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::WouldBlock,
        "silence, not a reset"
    );
    assert!(
        a.ip(&["-br", "link", "show", "eth0"])
            .unwrap()
            .contains("LOWER_UP"),
        "the carrier stays"
    );
    lab.wire().heal("a", "b");
    server.set_read_timeout(Some(10 * S)).unwrap();
    let mut got = [0; 13];
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"into the dark");
}

#[test]
fn tcp_gets_the_rate_of_the_link() {
    let Some(mut lab) = Lab::or_skip(4) else {
        return;
    };
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    lab.wire().set(
        "a",
        "b",
        Link {
            rate: Some(8_000_000),
            ..Link::delay_ms(5)
        },
    );
    let listener = b.inside(|| TcpListener::bind((b.v4(), 80)).unwrap());
    let mut client = a.inside(|| TcpStream::connect((b.v4(), 80)).unwrap());
    let (server, _) = listener.accept().unwrap();
    let (bytes, took) = timed(|| {
        std::thread::scope(|s| {
            s.spawn(move || client.write_all(&vec![0; 2_000_000]).unwrap());
            server.take(3_000_000).read_to_end(&mut Vec::new()).unwrap()
        })
    });
    assert_eq!(bytes, 2_000_000);
    // 1 MB/s at best, and headers cost 5 %.
    let seconds = took.as_secs_f64();
    assert!(
        (1.9..4.0).contains(&seconds),
        "2 MB at 8 Mbit/s took {seconds} s"
    );
}

#[test]
fn programs_are_heard_frozen_and_killed_and_nothing_stays() {
    let Some(mut lab) = Lab::or_skip(5) else {
        return;
    };
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    a.resolver(&[b.v4().into()]).unwrap();
    assert!(
        a.run("cat", &["/etc/resolv.conf"])
            .unwrap()
            .contains(&b.v4().to_string())
    );
    let script = "n=0; while :; do n=$((n+1)); echo tick=$n; sleep 0.05; done";
    let ticker = a.spawn(a.command("sh").args(["-c", script])).unwrap();
    let line = ticker.wait_line(5 * S, |l| l == "tick=4").unwrap();
    assert!(!line.stderr && line.number == 3);
    ticker.freeze().unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", ticker.pid())).unwrap();
    until("it to freeze", S, || state().contains(") T ").then_some(())).unwrap();
    ticker.thaw().unwrap();
    let next = ticker.lines().last().unwrap().number + 1;
    ticker
        .wait_line_from(next, 5 * S, |l| l.starts_with("tick="))
        .unwrap();
    assert!(
        ticker
            .wait_line(S / 10, |l| l.contains("no such line"))
            .is_err()
    );
    ticker.kill().unwrap();
    assert!(ticker.ended().is_some());

    let sleeper: Running = b.spawn(b.command("sleep").arg("1000")).unwrap();
    let (spaces, pid) = (
        [a.namespace().to_owned(), b.namespace().to_owned()],
        sleeper.pid(),
    );
    drop(lab);
    let left = ip(&["netns", "list"]).unwrap();
    assert!(spaces.iter().all(|s| !left.contains(s.as_str())), "{left}");
    sleeper.wait(5 * S).unwrap();
    assert!(
        !std::path::Path::new("/etc/netns").join(&spaces[0]).exists(),
        "pid {pid}"
    );
}

#[test]
fn two_labs_side_by_side_do_not_meet() {
    let Some(mut one) = Lab::or_skip(6) else {
        return;
    };
    let mut two = Lab::new(7).unwrap();
    let (a, b) = (one.host("a").unwrap(), one.host("b").unwrap());
    let c = two.host("a").unwrap();
    assert_ne!(a.namespace(), c.namespace());
    let listener = b.inside(|| TcpListener::bind((b.v4(), 80)).unwrap());
    let address = listener.local_addr().unwrap();
    a.inside(|| TcpStream::connect_timeout(&address, S))
        .unwrap();
    c.inside(|| TcpStream::connect_timeout(&address, S))
        .unwrap_err();
}
