//! libsrt's clients as publishers, and strangers.
use std::{process::Stdio, time::Duration};

use media::{
    rtmp::Limits,
    srt::{Options, Passphrase},
};
use routing::model::Secret;
use tokio::{net::UdpSocket, process::Command};

use super::house::{BROADCAST, House, KEY, Line};

/// How many pictures and sounds a client sends: 6 s.
const PICTURES: usize = 150;
const SOUNDS: usize = 281;

/// ffmpeg's part of a command: 6 s of film as MPEG-TS.
const FILM: &str = "ffmpeg -hide_banner -loglevel error -nostdin -re -f lavfi -i testsrc2=s=320x180:r=25:d=6 \
                    -f lavfi -i sine=b=1:r=48000:d=6 -c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p -c:a aac \
                    -ac 2 -f mpegts";

async fn shell(command: &str) -> (bool, String) {
    // All of a pipe ends with it.
    let output = Command::new("timeout")
        .args(["-k", "2", "60", "sh", "-c", command])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text)
}

fn options(passphrase: Option<&str>) -> Options {
    Options {
        passphrase: passphrase.map(|p| Passphrase::new(Secret::new(p.into())).unwrap()),
        ..Options::default()
    }
}

/// Waits until frames of a publication have come.
async fn publishing(house: &House) {
    let mut board = house.board.0.subscribe();
    let there = board.wait_for(|all| !all.is_empty());
    let there = tokio::time::timeout(Duration::from_secs(20), there);
    there.await.expect("nobody publishes").unwrap();
}

/// Waits until the publication has ended, and looks at all of its frames.
async fn whole(house: &House, what: &str) {
    let mut board = house.board.0.subscribe();
    let ended = board.wait_for(|all| matches!(all.as_slice(), [Some(_), None]));
    let ended = tokio::time::timeout(Duration::from_secs(20), ended);
    ended
        .await
        .unwrap_or_else(|_| panic!("{what}: no frames, or no end"))
        .unwrap();
    house.board.0.send_modify(Vec::clear);
    let broadcast = house.broadcasts.get(BROADCAST).unwrap();
    assert!(broadcast.current().unwrap().ended());
    let (video, audio) = (Line::of(&broadcast, 0), Line::of(&broadcast, 1));
    let (pictures, sounds) = (video.frames(), audio.frames());
    let (shown, heard) = (pictures.len(), sounds.len());
    assert!(
        (PICTURES - 1..=PICTURES).contains(&shown),
        "{what}: {shown} pictures"
    );
    assert!(
        (SOUNDS - 3..=SOUNDS + 2).contains(&heard),
        "{what}: {heard} sounds"
    );
    for pair in pictures.windows(2) {
        assert_eq!(
            pair[1].dts - pair[0].dts,
            3600,
            "{what}: no picture is missing"
        );
    }
    for pair in sounds.windows(2) {
        assert_eq!(
            pair[1].dts - pair[0].dts,
            1024,
            "{what}: no sound is missing"
        );
    }
}

/// What is left in libsrt's buffer at the end is sent first.
const MORE: &str = "pkt_size=1316&linger=2";
const SECRET: &str = "open sesame 1";

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_in_the_clear_and_with_every_key_length() {
    let ways = [
        (None, KEY.to_owned(), ""),
        (None, format!("#!::u=me,r={KEY},m=publish"), ""),
        (Some(SECRET), KEY.to_owned(), "-pbkeylen 16"),
        (Some(SECRET), KEY.to_owned(), "-pbkeylen 24"),
        (Some(SECRET), KEY.to_owned(), "-pbkeylen 32"),
    ];
    let ways = ways.map(async |(passphrase, stream_id, more)| {
        let mut house = House::open(Limits::default()).await;
        let at = house.listen_srt(options(passphrase));
        let secret = passphrase.map_or_else(String::new, |p| format!("-passphrase '{p}' {more}"));
        let out = format!("{FILM} {secret} -srt_streamid '{stream_id}' 'srt://{at}?{MORE}'");
        let (done, text) = shell(&out).await;
        assert!(done, "{out}: {text}");
        whole(&house, &out).await;
        house.close().await;
    });
    futures::future::join_all(ways).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srt_live_transmit_and_gstreamer_publish() {
    let mut house = House::open(Limits::default()).await;
    let at = house.listen_srt(options(Some(SECRET)));
    // It does not end with its input.
    let transmit = format!(
        "{FILM} - | timeout -s INT 8 srt-live-transmit -q -a no -chunk:1316 file://con \
         'srt://{at}?streamid={KEY}&passphrase={SECRET}&pbkeylen=24'; true"
    );
    let gstreamer = format!(
        "gst-launch-1.0 -q mpegtsmux name=m alignment=7 ! srtsink uri='srt://{at}' streamid={KEY} \
         passphrase='{SECRET}' pbkeylen=32 \
         videotestsrc is-live=true num-buffers=150 ! video/x-raw,width=320,height=180,framerate=25/1 ! \
         x264enc tune=zerolatency key-int-max=25 ! m. \
         audiotestsrc is-live=true samplesperbuffer=1024 num-buffers=281 ! audio/x-raw,rate=48000,channels=2 ! \
         avenc_aac ! m."
    );
    for command in [transmit, gstreamer] {
        let (done, text) = shell(&command).await;
        assert!(done, "{command}: {text}");
        whole(&house, &command).await;
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_hostile_callers_do_not_disturb_a_stream_and_are_told_why() {
    let mut house = House::open(Limits::default()).await;
    let at = house.listen_srt(options(None));
    let good = format!("{FILM} -srt_streamid {KEY} 'srt://{at}?{MORE}'");
    let hostile = async {
        publishing(&house).await;
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let greeting = media::srt::greeting();
        for n in 0..100_usize {
            let mut datagram = greeting.to_vec();
            // A stranger's version of everything: other kinds, other sizes, cut short.
            datagram[n % 64] = u8::try_from(n).unwrap();
            datagram.resize(n * 14, 0xff);
            stranger.send_to(&datagram, at).await.unwrap();
        }
        for (key, more, why) in [
            (
                KEY,
                "&passphrase=open barley",
                "Password required or unexpected",
            ),
            ("sk_wrong", "", "Application-defined rejection reason"),
            (
                "#!::r=sk_test,m=request",
                "",
                "Application-defined rejection reason",
            ),
        ] {
            let url = format!("srt://{at}?streamid={key}{more}");
            let command = format!("echo | srt-live-transmit -ll:debug -a no file://con '{url}'");
            let (_, text) = shell(&command).await;
            assert!(text.contains(why), "{command}: {text}");
        }
    };
    let ((done, text), ()) = tokio::join!(shell(&good), hostile);
    assert!(done, "{text}");
    whole(&house, "among strangers").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_told_to_publishers() {
    let mut house = House::open(Limits::default()).await;
    let at = house.listen_srt(options(None));
    let good = format!("{FILM} -srt_streamid {KEY} 'srt://{at}?{MORE}'");
    let publisher = tokio::spawn(async move { shell(&good).await });
    publishing(&house).await;
    house.close().await;
    let ended = tokio::time::timeout(Duration::from_secs(5), publisher);
    assert!(!ended.await.unwrap().unwrap().0, "its stream is broken off");
}
