//! A real server on the loopback, asked by BIND's `dig` and Knot's `kdig`.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use common::{LIVE, facts, node_label};
use dns::{DnsOptions, Server, StartError, Zone, ZoneFacts};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    process::Command,
    time::{Duration, timeout},
};

struct Running {
    server: Server,
    zone: Arc<ArcSwap<Zone>>,
    addr: SocketAddr,
}

async fn start(facts: ZoneFacts) -> Running {
    let zone = Arc::new(ArcSwap::from_pointee(Zone::new(facts).unwrap()));
    let options = DnsOptions::new(vec!["127.0.0.1:0".parse().unwrap()]);
    let server = Server::start(options, zone.clone()).await.unwrap();
    let addr = server.addrs()[0];
    Running { server, zone, addr }
}

impl Running {
    /// What `program` prints of a question; every option of it as on a command line.
    async fn ask(&self, program: &str, question: &str) -> String {
        let mut command = Command::new(program);
        let once = if program == "dig" {
            "+tries=1"
        } else {
            "+retry=0"
        };
        let port = self.addr.port().to_string();
        command.args(["@127.0.0.1", "-p", &port, "+time=5", once]);
        let run = command.args(question.split_whitespace()).output().await;
        let run = run
            .unwrap_or_else(|e| panic!("{program}: {e}; apt install bind9-dnsutils knot-dnsutils"));
        let text = String::from_utf8_lossy(&run.stdout).into_owned()
            + &String::from_utf8_lossy(&run.stderr);
        assert!(
            !text.contains("timed out") && !text.contains("Malformed"),
            "{program} {question}:\n{text}"
        );
        text
    }

    async fn short(&self, program: &str, question: &str) -> Vec<String> {
        let text = self.ask(program, &format!("+short {question}")).await;
        text.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn dig_and_kdig_get_the_nearest_two_for_each_continent() {
    let running = start(facts()).await;
    for program in ["dig", "kdig"] {
        for transport in ["", "+tcp"] {
            for (subnet, expected) in [
                ("10.1.7.0/24", ["192.0.2.1", "192.0.2.2"]),
                ("10.2.7.0/24", ["192.0.2.2", "192.0.2.1"]),
                ("10.3.7.0/24", ["192.0.2.3", "192.0.2.1"]),
            ] {
                let question = format!("{transport} +subnet={subnet} foghorn.acme.cdn.mesh.test A");
                assert_eq!(
                    running.short(program, &question).await,
                    expected,
                    "{program} {question}"
                );
            }
            let question = format!("{transport} {LIVE}.acme.cdn.mesh.test AAAA");
            assert_eq!(running.short(program, &question).await, ["2001:db8::3"]);
        }
    }
    running.server.stop().await;
}

#[tokio::test]
async fn the_header_the_scope_and_the_times_to_live_are_right() {
    let running = start(facts()).await;
    let text = running
        .ask(
            "dig",
            "+norec +subnet=10.3.7.0/24 FoghoRN.acme.cdn.mesh.test A",
        )
        .await;
    for part in [
        "status: NOERROR",
        "flags: qr aa;",
        "CLIENT-SUBNET: 10.3.7.0/24/16",
        "udp: 1232",
        "FoghoRN.acme.cdn.mesh.test. 10 IN",
    ] {
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(part), "no `{part}` in:\n{text}");
    }
    let text = running.ask("dig", "absent.acme.cdn.mesh.test A").await;
    assert!(
        text.contains("status: NXDOMAIN")
            && text.contains("hostmaster.mesh.test. 7 3600 600 86400 5"),
        "{text}"
    );
    let text = running
        .ask("dig", "+subnet=0 foghorn.acme.cdn.mesh.test A")
        .await;
    assert!(
        text.contains("status: NOERROR") && text.contains("CLIENT-SUBNET: 0.0.0.0/0/0"),
        "{text}"
    );
    let text = running
        .ask("kdig", "+subnet=10.1.0.0/16 foghorn.acme.cdn.mesh.test A")
        .await;
    assert!(
        text.contains("status: NOERROR") && text.contains("CLIENT-SUBNET: 10.1.0.0/16/16"),
        "{text}"
    );
}

#[tokio::test]
async fn other_types_names_and_operations() {
    let running = start(facts()).await;
    for (question, status, answers) in [
        ("mesh.test SOA", "NOERROR", 1),
        ("mesh.test NS", "NOERROR", 2),
        ("mesh.test AXFR +tcp", "failed", 0),
        ("foghorn.mesh.test TXT", "NOERROR", 0),
        ("foghorn.mesh.test TYPE65399", "NOERROR", 0),
        ("foghorn.mesh.test ANY", "NOERROR", 1),
        ("cdn.mesh.test A", "NOERROR", 0),
        ("www.example.org A", "REFUSED", 0),
        ("version.bind TXT CH", "REFUSED", 0),
        ("+opcode=NOTIFY mesh.test SOA", "NOTIMP", 0),
        ("+edns=1 +noednsneg mesh.test SOA", "BADVERS", 0),
    ] {
        let text = running.ask("dig", question).await;
        let all = if question.contains("AXFR") {
            text.contains("Transfer failed")
        } else {
            text.contains(&format!("status: {status}"))
                && text.contains(&format!("ANSWER: {answers},"))
        };
        assert!(all, "{question}: want {status} and {answers}:\n{text}");
    }
    let text = running
        .ask("dig", &format!("{}.acme.cdn.mesh.test A", node_label(2)))
        .await;
    assert!(text.contains("192.0.2.2"), "{text}");
}

#[tokio::test]
async fn what_does_not_fit_is_asked_again_over_tcp() {
    let mut facts = facts();
    for n in 0..120 {
        facts.nodes[0].playback.push([198, 51, 100, n].into());
    }
    let running = start(facts).await;
    let question = format!("{}.acme.cdn.mesh.test A", node_label(1));
    let text = running.ask("dig", &format!("+ignore {question}")).await;
    assert!(
        text.contains(" tc") && text.contains("ANSWER: 0,"),
        "{text}"
    );
    let text = running.ask("dig", &question).await;
    assert!(
        text.contains("ANSWER: 121,") && text.contains("retrying in TCP mode"),
        "{text}"
    );
}

#[tokio::test]
async fn a_new_zone_is_answered_from_at_once_and_an_unready_one_not_at_all() {
    let running = start(ZoneFacts {
        ready: false,
        ..facts()
    })
    .await;
    let question =
        b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04mesh\x04test\0\0\x06\0\x01";
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(running.addr).await.unwrap();
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let framed = [&[0, u8::try_from(question.len()).unwrap()][..], question].concat();
    stream.write_all(&framed).await.unwrap();
    assert_eq!(
        stream.read(&mut [0; 64]).await.unwrap(),
        0,
        "closed without an answer"
    );
    // Silence over UDP cannot be waited for; the one function that both transports answer by is tested for it.
    running.zone.store(Arc::new(Zone::new(facts()).unwrap()));
    let mut last = *question;
    last[0] = 0x11;
    socket.send(&last).await.unwrap();
    let mut answer = [0; 512];
    let len = timeout(Duration::from_secs(5), socket.recv(&mut answer))
        .await
        .expect("an answer")
        .unwrap();
    assert_eq!((answer[0], answer[3] & 0x0f), (0x11, 0));
    assert!(len > question.len());
}

#[tokio::test]
async fn garbage_in_either_transport_leaves_the_server_answering() {
    let running = start(facts()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for len in 0..64u8 {
        socket
            .send_to(&vec![len.wrapping_mul(37); usize::from(len)], running.addr)
            .await
            .unwrap();
        let mut stream = TcpStream::connect(running.addr).await.unwrap();
        stream
            .write_all(&vec![len.wrapping_mul(53); usize::from(len)])
            .await
            .unwrap();
    }
    assert_eq!(running.short("dig", "ns1.mesh.test A").await, ["192.0.2.1"]);
    assert_eq!(
        running.short("dig", "+tcp ns1.mesh.test A").await,
        ["192.0.2.1"]
    );
}

#[tokio::test]
async fn many_questions_on_one_connection_are_answered_in_order() {
    let running = start(facts()).await;
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let mut all = Vec::new();
    for id in 0..50u8 {
        let question = [
            &[0, 27, 0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
            b"\x04mesh\x04test\0\0\x06\0\x01",
        ]
        .concat();
        all.extend_from_slice(&question);
    }
    stream.write_all(&all).await.unwrap();
    for id in 0..50u8 {
        let len = stream.read_u16().await.unwrap();
        let mut answer = vec![0; usize::from(len)];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..2], [0, id]);
    }
}

#[tokio::test]
async fn a_taken_port_is_one_clear_error_and_a_stopped_server_frees_it() {
    let running = start(facts()).await;
    let zone = Arc::new(ArcSwap::from_pointee(Zone::new(facts()).unwrap()));
    let options = DnsOptions::new(vec![running.addr]);
    let StartError::Bind { addr, .. } = Server::start(options.clone(), zone.clone())
        .await
        .unwrap_err()
    else {
        panic!("another error");
    };
    assert_eq!(addr, running.addr);
    // A connection that idles after its first answer does not keep it from stopping.
    let mut idle = TcpStream::connect(running.addr).await.unwrap();
    idle.write_all(b"\0\x1b\0\x01\0\0\0\x01\0\0\0\0\0\0\x04mesh\x04test\0\0\x06\0\x01")
        .await
        .unwrap();
    let len = idle.read_u16().await.unwrap();
    idle.read_exact(&mut vec![0; usize::from(len)])
        .await
        .unwrap();
    running.server.stop().await;
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    drop(idle);
    Server::start(options, zone).await.unwrap().stop().await;
}
