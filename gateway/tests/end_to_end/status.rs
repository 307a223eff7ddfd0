//! Metadata, targets, status and the formatter.

use crate::support::World;

#[tokio::test]
async fn metadata_says_type_help_and_unit() {
    let world = World::new().await;
    assert_eq!(
        world.get("/api/v1/metadata?metric=a_seconds_total&limit=7").await.text(),
        r#"{"status":"success","data":{"a_seconds_total":[{"type":"counter","help":"Says \"x\".","unit":"seconds"}],"b":[{"type":"unknown","help":"","unit":""}]}}"#
    );
    assert_eq!(world.get("/api/v1/metadata?limit=-1").await.status, 200);
    assert_eq!(world.get("/api/v1/metadata?limit=0").await.text(), r#"{"status":"success","data":{}}"#);
    assert_eq!(*world.script.asked.lock().unwrap(), ["metadata \"a_seconds_total\" 7", "metadata \"\" 0"]);
    for wrong in ["limit=x", "limit_per_metric=x"] {
        let (status, kind, message) = world.get(&format!("/api/v1/metadata?{wrong}")).await.failed();
        assert_eq!((status, &kind[..]), (400, "bad_data"));
        assert!(message.ends_with("must be a number"), "{message}");
    }
}

#[tokio::test]
async fn targets_are_hosts_and_what_is_scraped() {
    let world = World::new().await;
    let host = r#"{"discoveredLabels":{"__address__":"web-1","job":"node"},"labels":{"instance":"web-1","job":"node"},"scrapePool":"node","scrapeUrl":"agent://web-1/","globalUrl":"agent://web-1/","lastError":"","lastScrape":"2023-11-14T22:13:20.123Z","lastScrapeDuration":0.0025,"health":"up","scrapeInterval":"15s","scrapeTimeout":"15s"}"#;
    let scraped = r#"{"discoveredLabels":{"__address__":"h:9","job":"app"},"labels":{"instance":"h:9","job":"app"},"scrapePool":"app","scrapeUrl":"http://h:9/metrics","globalUrl":"http://h:9/metrics","lastError":"the scrape failed","lastScrape":"2023-11-14T22:13:20.123Z","lastScrapeDuration":0.0025,"health":"down","scrapeInterval":"15s","scrapeTimeout":"15s"}"#;
    // Of this one its agent has said more.
    let told = r#"{"discoveredLabels":{"__address__":"h:8","job":"db"},"labels":{"instance":"h:8","job":"db"},"scrapePool":"db","scrapeUrl":"https://h:8/m?a=1","globalUrl":"https://h:8/m?a=1","lastError":"cannot connect: \"no\"","lastScrape":"2023-11-14T22:13:20.123Z","lastScrapeDuration":0.0025,"health":"down","scrapeInterval":"30s","scrapeTimeout":"10s"}"#;
    let check = async |query: &str, expected: &str| {
        let expected = format!(
            r#"{{"status":"success","data":{{"activeTargets":[{expected}],"droppedTargets":[],"droppedTargetCounts":{{}}}}}}"#
        );
        assert_eq!(world.get(&format!("/api/v1/targets{query}")).await.text(), expected);
    };
    check("", &format!("{host},{scraped},{told}")).await;
    check("?state=active&scrapePool=app", scraped).await;
    check("?state=dropped", "").await;
    assert_eq!(world.get("/api/v1/targets?state=x").await.failed().0, 400);
}

#[tokio::test]
async fn status_has_the_shapes_of_prometheus() {
    let world = World::new().await;
    assert_eq!(
        world.get("/api/v1/status/tsdb").await.text(),
        r#"{"status":"success","data":{"headStats":{"numSeries":10,"numLabelPairs":0,"chunkCount":0,"minTime":0,"maxTime":0},"seriesCountByMetricName":[],"labelValueCountByLabelName":[],"memoryInBytesByLabelName":[],"seriesCountByLabelValuePair":[{"name":"job=a\"","value":3}]}}"#
    );
    assert_eq!(world.get("/api/v1/status/tsdb?limit=3").await.json()["data"]["headStats"]["numSeries"], 3);
    for wrong in ["0", "10001", "-1", "x"] {
        let path = format!("/api/v1/status/tsdb?limit={wrong}");
        // A negative number means no limit, of which there is none here.
        let expected = if wrong == "-1" { 200 } else { 400 };
        assert_eq!(world.get(&path).await.status, expected, "{wrong}");
    }
    let runtime = world.get("/api/v1/status/runtimeinfo").await.json();
    assert_eq!(runtime["data"]["startTime"], "2023-11-14T22:13:20.000Z");
    assert_eq!(runtime["data"]["storageRetention"], "25h");
    let constants = [
        ("status/walreplay", r#"{"status":"success","data":{"min":0,"max":0,"current":0}}"#),
        (
            "status/config",
            r##"{"status":"success","data":{"yaml":"# lightmetrics has settings of its own\n"}}"##,
        ),
        ("notifications", r#"{"status":"success","data":[]}"#),
        (
            "alertmanagers",
            r#"{"status":"success","data":{"activeAlertmanagers":[],"droppedAlertmanagers":[]}}"#,
        ),
        ("targets/metadata", r#"{"status":"success","data":[]}"#),
    ];
    for (path, expected) in constants {
        assert_eq!(world.get(&format!("/api/v1/{path}")).await.text(), expected);
    }
    // Grafana takes who answers this for Thanos.
    assert_eq!(world.get("/api/v1/status/flags").await.failed().0, 404);
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(world.anonymous(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn queries_are_formatted_by_the_collector() {
    let world = World::new().await;
    let expected = r#"{"status":"success","data":"up / \"x\""}"#;
    assert_eq!(world.get("/api/v1/format_query?query=up").await.text(), expected);
    assert_eq!(world.post("/api/v1/format_query", "query=up").await.text(), expected);
    assert_eq!(
        world.get("/api/v1/parse_query?query=up").await.text(),
        r#"{"status":"success","data":{"type":"vectorSelector","name":"up"}}"#
    );
    assert_eq!(
        world.get("/api/v1/format_query?query=bad").await.failed(),
        (400, "bad_data".to_owned(), "invalid parameter \"query\": 1:1: parse error: why".to_owned())
    );
}
