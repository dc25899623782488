//! A node of a cluster that a tenant is not entitled at: it has none of the tenant's records, and still every answer.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
mod program;

use std::{
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use mesh::{
    authority::{ClusterGrant, ClusterKind, NodeGrant},
    identity::{ClusterKey, DataDir},
    records::{Change, Records, RecordsOptions, Scope},
    store::DiskStore,
};
use program::{Machine, S, text, until};
use routing::model::{Clock, ClusterId, Role, Roles, UnixMillis, Uptime};
use serde_json::{Value, json};

struct Now(Instant);

impl Clock for Now {
    fn uptime(&self) -> Uptime {
        Uptime(self.0.elapsed())
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "records beside those of real programs"
    )]
    fn unix(&self) -> UnixMillis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixMillis(u64::try_from(now.as_millis()).unwrap())
    }
}

/// Grants a second cluster and moves the node of `other` into it, by records of the founder's.
#[expect(clippy::disallowed_methods, reason = "as above")]
async fn move_out(founder: &Path, other: &Path) {
    let (here, there) = (
        DataDir::open(founder).unwrap(),
        DataDir::open(other).unwrap(),
    );
    let root = here.root_key().unwrap().unwrap();
    let clock = Arc::new(Now(Instant::now()));
    let (mesh, now) = (root.mesh(), clock.unix());
    let (cluster, key) = (
        ClusterId::from_bytes([9; 16]),
        ClusterKey::from_seed([9; 32]),
    );
    let roles: Roles = Role::ALL.iter().copied().collect();
    let grant = ClusterGrant {
        mesh,
        cluster,
        key: key.public(),
        kind: ClusterKind::Marketplace,
        slug: "harbour".parse().unwrap(),
        name: "Harbour".into(),
        roles,
        issued: now,
    };
    let node = there.node_key().unwrap().unwrap();
    let moved = NodeGrant {
        mesh,
        cluster,
        node: node.id(),
        name: "bravo".parse().unwrap(),
        roles,
        not_before: now,
        expires: now.plus(NodeGrant::LASTS),
        consent: node.consent(&mesh, cluster),
        token: None,
    };
    let records = Records::open(RecordsOptions {
        mesh,
        key: here.node_key().unwrap().unwrap(),
        store: Arc::new(DiskStore::open(here.store_path()).unwrap()),
        clock,
        epoch: None,
    })
    .await
    .unwrap();
    let changes = vec![
        Change::Cluster(grant.issue(&root).unwrap()),
        Change::Node(moved.issue(&key).unwrap()),
    ];
    records.write(Scope::Mesh, changes, None).await.unwrap();
    records.stop().await;
    there.set_cluster(cluster).unwrap();
    there.set_cluster_key(&key).unwrap();
}

fn code(answer: &Value) -> &Value {
    &answer["errors"][0]["extensions"]["code"]
}

#[test]
fn it_resolves_viewers_and_streamers_by_asking_a_gateway_with_the_records() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (
        Machine::new(home.path(), "a", "127.90.8.1"),
        Machine::new(home.path(), "b", "127.90.8.2"),
    );
    let founder = a.found("video.test", "alpha");
    b.say(&["join", &a.token(), "--name", "bravo"]).good();
    assert!(founder.stop().success());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(move_out(&a.data, &b.data));
    let (founder, _b) = (a.start(), b.start());
    a.sees(2);
    b.sees(2);

    let token = text(&a.say(&["tenant", "create", "acme", "--json"]).json()["token"]);
    let made = a.graphql(
        &token,
        "mutation { createStream(input: { name: \"Main stage\" }) { ... on Stream { id playbackId streamKey } } }",
    );
    let stream = &made["data"]["createStream"];
    let (id, playback, key) = (
        text(&stream["id"]),
        text(&stream["playbackId"]),
        text(&stream["streamKey"]),
    );
    let viewer = format!(
        "{{ it: resolveViewerEndpoint(contentId: \"{playback}\") {{ primary {{ nodeId url }} metadata {{ title isLive }} }} }}"
    );
    let streamer = |key: &str| {
        format!(
            "{{ it: resolveIngestEndpoint(streamKey: \"{key}\") {{ primary {{ rtmpUrl kind }} metadata {{ streamId title }} }} }}"
        )
    };
    // No token: neither viewers nor encoders have one.
    let (at_a, at_b) = (
        |query: &str| a.graphql("", query),
        |query: &str| b.graphql("", query),
    );
    until("alpha's ports to be known at both", 20 * S, || {
        let known = |m: &Machine| {
            let status = m.say(&["status", "--json"]).json();
            let all = status["nodes"].as_array()?.clone();
            let alpha = all.into_iter().find(|n| n["name"] == "alpha")?;
            (alpha["services"]["rtmp"].is_string() && alpha["services"]["https"].is_string())
                .then_some(())
        };
        known(&a).and(known(&b))
    })
    .unwrap();
    let answer = until("the stream at bravo", 10 * S, || {
        let answer = at_b(&viewer);
        answer["data"]["it"]["primary"]
            .is_object()
            .then_some(answer)
    })
    .unwrap();
    assert_eq!(answer, at_a(&viewer));
    let it = &answer["data"]["it"];
    assert_eq!(
        it["metadata"],
        json!({ "title": "Main stage", "isLive": false })
    );
    let url = text(&it["primary"]["url"]);
    assert!(
        url.ends_with(&format!(
            ".acme.cdn.video.test:18443/play/{playback}/cmaf/index.m3u8"
        )),
        "{url}"
    );

    let answer = at_b(&streamer(&key));
    assert_eq!(answer, at_a(&streamer(&key)));
    let it = &answer["data"]["it"];
    let expected = format!("rtmp://edge-ingest.acme.cdn.video.test:11935/live/{key}");
    assert_eq!(
        it["primary"],
        json!({ "rtmpUrl": expected, "kind": "TENANT_ALIAS" })
    );
    assert_eq!(it["metadata"]["streamId"], id.as_str());

    // What nobody has, and what was withdrawn, is answered as where the records are.
    let nothing = at_b(&streamer("sk_none"));
    assert!(
        nothing["data"]["it"].is_null() && nothing["errors"].is_null(),
        "{nothing}"
    );
    let refresh = format!(
        "mutation {{ refreshStreamKey(id: \"{id}\") {{ ... on Stream {{ streamKey }} }} }}"
    );
    let new = text(&a.graphql(&token, &refresh)["data"]["refreshStreamKey"]["streamKey"]);
    assert!(at_b(&streamer(&new))["data"]["it"]["primary"].is_object());
    let old = at_b(&streamer(&key));
    assert_eq!(code(&old), "FORBIDDEN", "{old}");

    // Where nobody is left to ask, that is no "unknown".
    drop(founder);
    until("bravo sees that alpha is gone", 10 * S, || {
        let answer = at_b(&streamer(&new));
        (code(&answer) == "UNAVAILABLE").then_some(())
    })
    .unwrap();
}
