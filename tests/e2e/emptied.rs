//! A collector whose disk was emptied is another cluster: agents keep their
//! queues until a person decides.

use std::time::Duration;

use lm_tests::accounting::lines::{self, LineWriter};
use lm_tests::process::{binary, run};
use lm_tests::{System, eventually};

use crate::{SOON, expect_line};

#[test]
fn an_emptied_collector_is_refused_until_reassigned() {
    let mut system = System::new(&["a"]);
    system.agent("a").config.set_text("shutdown_timeout", "1s");
    system.write_configs();
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(100);
    system.start();
    crate::expect_lines(&system.api, "a", 100, SOON);
    system.collector.kill();
    // These are only in the agent's queue.
    writer.write(100);
    std::fs::remove_dir_all(system.path("collector")).unwrap();
    system.collector.start();
    system.wait_collector();
    eventually("the agent says what to do", SOON + SOON, || {
        let log = system.agents[0].process.log_text();
        if ["WARN", "cluster", "lm-agent queue reassign"].iter().all(|part| log.contains(part)) {
            Ok(())
        } else {
            Err(system.agents[0].process.tail())
        }
    });
    assert!(system.agents[0].process.is_running());
    eventually("the gateway is back", SOON, || system.api.losses());
    assert_eq!(system.api.all_lines("{instance=\"a\"}", "").unwrap(), []);
    writer.write(100);
    assert!(system.agents[0].process.stop().success());

    let file = system.agents[0].config_file.display().to_string();
    let reassign = ["queue".to_owned(), "reassign".to_owned(), file.clone()];
    run(&binary("lm-agent"), &reassign, Duration::from_secs(10)).expect_code(0);
    system.agents[0].process.start();
    writer.write(100);
    // Everything that the old cluster had not acknowledged is there, once.
    let found = eventually("the queue flows", SOON, || {
        let found = system.api.all_lines("{instance=\"a\"}", "p=0")?;
        if found.len() >= 300 { Ok(found) } else { Err(format!("{} lines", found.len())) }
    });
    let numbers: Vec<_> =
        found.iter().map(|line| lines::parse(&line.line).expect("a whole line").1).collect();
    assert_eq!(numbers, (400 - numbers.len() as u64..400).collect::<Vec<_>>());
    // The rest is declared, and the account closes.
    eventually("the hole is declared", SOON, || {
        let (stored, lost) = system.api.account("a", "logs")?;
        let declared = lost.get("reassigned").copied().unwrap_or_default();
        if stored + declared == writer.written() && lost.len() == 1 {
            Ok(())
        } else {
            Err(format!("{stored} stored, {lost:?}, {} written", writer.written()))
        }
    });
    // Nothing stalls: all streams go on.
    crate::append(&system.agents[0].logs.join("app.log"), "one more\n");
    expect_line(&system.api, "{instance=\"a\"}", "one more");
    let before = system.api.account("a", "metrics").unwrap().0;
    eventually("measurements flow", SOON, || match system.api.account("a", "metrics")?.0 {
        now if now > before => Ok(()),
        now => Err(format!("{now} samples")),
    });
}
