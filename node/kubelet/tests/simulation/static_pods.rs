//! Pods from files and from a URL. Where there are sockets, time is real.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use kubelet::GoDuration;
use lifecycle::Scope;
use parking_lot::Mutex;

use super::{
    servers::{self, answer},
    support::{self, World},
};

const TEXT: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: s}\nspec:\n  containers:\n  - {name: c, image: \"i:1\"}\n";

#[tokio::test(start_paused = true)]
async fn a_static_pod_runs_is_shown_and_goes_with_its_file() {
    let world = World::new().await;
    world.put_static_pod("s.yaml", Some(TEXT));
    world.until_there("s-node").await;
    world.until("s-node", support::is_running).await;
    assert_eq!(world.runtime.running(), ["c"]);
    world.put_static_pod("s.yaml", None);
    world.until_gone("s-node").await;
    world.pass(Duration::from_secs(40)).await;
    assert!(world.runtime.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_that_refers_to_an_object_of_the_api_does_not_run() {
    let world = World::new().await;
    let text = TEXT.replace("spec:\n", "spec:\n  serviceAccountName: default\n");
    world.put_static_pod("s.yaml", Some(&text));
    world.put_static_pod("t.yaml", Some(&TEXT.replace("name: s", "name: t")));
    world.until_there("t-node").await;
    world.until("t-node", support::is_running).await;
    world.pass(Duration::from_secs(40)).await;
    assert_eq!(world.runtime.running(), ["c"]);
    assert!(!world.is_there("s-node").await);
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_whose_file_went_or_changed_while_the_kubelet_was_away_is_ended_or_replaced() {
    let mut world = World::new().await;
    let other = TEXT.replace("name: s", "name: t").replace("name: c", "name: d");
    world.put_static_pod("s.yaml", Some(TEXT));
    world.put_static_pod("t.yaml", Some(&other));
    for name in ["s-node", "t-node"] {
        world.until_there(name).await;
        world.until(name, support::is_running).await;
    }
    world.stop_kubelet().await;
    world.put_static_pod("s.yaml", None);
    world.put_static_pod("t.yaml", Some(&other.replace("name: d", "name: e")));
    world.restart_kubelet().await;
    world.until_gone("s-node").await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.runtime.running(), ["e"]);
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
    assert_eq!(world.runtime.held(), 2, "one sandbox and one container");
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_that_the_api_server_would_refuse_does_not_run_and_its_neighbours_do() {
    let world = World::new().await;
    world.put_static_pod("a.yaml", Some(&TEXT.replace("name: s}", "name: ../../s}")));
    world.put_static_pod("b.yaml", Some(&TEXT.replace("name: c", "name: ..")));
    world.put_static_pod("c.yaml", Some(&TEXT.replace(", image: \"i:1\"", "")));
    world.put_static_pod("d.yaml", Some("{"));
    world.put_static_pod("t.yaml", Some(&TEXT.replace("name: s", "name: t")));
    world.until_there("t-node").await;
    world.until("t-node", support::is_running).await;
    world.pass(Duration::from_secs(40)).await;
    assert_eq!(world.runtime.running(), ["c"]);
    assert_eq!(world.runtime.count("RunPodSandbox", "t-node"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_is_noticed_at_once_however_seldom_the_folder_is_looked_at() {
    let world = World::configured(|settings| {
        settings.config.file_check_frequency = GoDuration(Duration::from_secs(86_400));
        std::fs::create_dir_all(&settings.config.static_pod_path).unwrap();
    })
    .await;
    world.pass(Duration::from_secs(5)).await;
    world.put_static_pod("s.yaml", Some(TEXT));
    world.until_there("s-node").await;
    world.until("s-node", support::is_running).await;
    world.put_static_pod("s.yaml", Some(&TEXT.replace("name: c", "name: d")));
    world.pass(Duration::from_secs(40)).await;
    assert_eq!(world.runtime.running(), ["d"]);
    world.put_static_pod("s.yaml", None);
    world.until_gone("s-node").await;
}

/// What a web server answers now, and the headers that it was sent last.
#[derive(Clone, Default)]
struct Web {
    says: Arc<Mutex<(u16, String)>>,
    seen: Arc<Mutex<HeaderMap>>,
}

impl Web {
    /// Serves until the scope ends, and returns where.
    fn serve(&self, scope: &Scope) -> String {
        let this = self.clone();
        let port = servers::web(scope, false, move |request| {
            *this.seen.lock() = request.headers.clone();
            let (status, body) = this.says.lock().clone();
            let status = if request.uri.path() == "/moved" { 302 } else { status };
            answer(status, &[("location", "/pods")], &body)
        });
        format!("http://127.0.0.1:{port}/moved")
    }

    fn say(&self, status: u16, body: &str) {
        *self.says.lock() = (status, body.to_owned());
    }
}

#[tokio::test]
async fn pods_of_a_url_come_change_and_go_with_what_it_answers() {
    let (web, scope) = (Web::default(), Scope::new());
    web.say(200, TEXT);
    let url = web.serve(&scope);
    let mut world = World::configured(move |settings| {
        let config = &mut settings.config;
        config.static_pod_url = url.clone();
        config.static_pod_url_header =
            [("X-Node".to_owned(), vec!["n1".to_owned(), "n2".to_owned()])].into();
        config.http_check_frequency = GoDuration(Duration::from_millis(50));
    })
    .await;
    world.until_there("s-node").await;
    world.until("s-node", support::is_running).await;
    let seen = web.seen.lock().clone();
    assert_eq!(seen.get_all("x-node").iter().collect::<Vec<_>>(), ["n1", "n2"]);

    // A server that fails, or answers nonsense, ends no pod.
    web.say(500, "broken");
    world.pass(Duration::from_millis(300)).await;
    web.say(200, "<html>");
    world.pass(Duration::from_millis(300)).await;
    assert_eq!(world.runtime.running(), ["c"]);
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);

    // Nor does the next kubelet, before it has had its first answer.
    web.say(500, "broken");
    world.restart_kubelet().await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.runtime.running(), ["c"]);
    web.say(200, TEXT);
    world.pass(Duration::from_millis(500)).await;
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);

    let list = format!(
        "kind: PodList\nitems:\n- {}",
        r#"{metadata: {name: t}, spec: {containers: [{name: d, image: "i:1"}]}}"#
    );
    web.say(200, &list);
    world.until_there("t-node").await;
    world.until("t-node", support::is_running).await;
    world.until_gone("s-node").await;
    web.say(200, "");
    world.until_gone("t-node").await;
    scope.cancel();
}
