use super::*;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

fn message() -> Rc<Builder<HeapAllocator>> {
    Rc::new(Builder::new_default())
}

#[test]
fn a_peer_that_takes_nothing_stalls_the_queue() {
    run(async {
        let meter = Arc::new(Meter::default());
        let unsent = Rc::new(Unsent::new(meter.clone()));
        // An empty queue may rest for a day.
        let day = Duration::from_secs(86_400);
        assert!(tokio::time::timeout(day, unsent.stalled()).await.is_err());

        let (first, began) = (unsent.queue(message(), 100), Instant::now());
        let second = unsent.queue(message(), 50);
        assert_eq!((unsent.bytes(), meter.facts().unsent_bytes), (150, 150));
        unsent.stalled().await;
        assert_eq!(began.elapsed().as_secs(), 30);
        drop((first, second));
        assert_eq!((unsent.bytes(), meter.facts().unsent_bytes), (0, 0));
    });
}

#[test]
fn a_peer_that_takes_a_little_is_only_slow() {
    run(async {
        let unsent = Rc::new(Unsent::new(Arc::default()));
        let mut writer = Watched { inner: futures::io::Cursor::new(Vec::new()), unsent: unsent.clone() };
        let _queued = unsent.queue(message(), 100);
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                futures::AsyncWriteExt::write(&mut writer, b"x").await.unwrap();
            }
            Instant::now()
        };
        let stalled = async {
            unsent.stalled().await;
            Instant::now()
        };
        let (last, stalled) = tokio::join!(slow, stalled);
        assert_eq!((stalled - last).as_secs(), 30);
    });
}
