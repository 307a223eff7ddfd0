use std::sync::Arc;

use capnp::traits::HasTypeId;
use capnp_rpc::rpc_capnp::message;
use lm_schema::mesh_capnp::gate;

use super::super::{MeshLimits, Meter};
use super::*;

/// Its one method keeps the thread for a millisecond.
struct Busy;

impl gate::Server for Busy {
    async fn login(self: Rc<Self>, _: gate::LoginParams, _: gate::LoginResults) -> Result<(), capnp::Error> {
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }
}

fn message(build: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    let mut message = Builder::new_default();
    build(message.init_root());
    capnp::serialize::write_message_to_words(&message)
}

const CALLS: u32 = 200;

/// A stream that never has to wait for its peer, on a thread that has
/// something else to do.
#[test]
fn a_flood_of_messages_gives_way() {
    let calls = (1..=CALLS).map(|id| {
        message(|root| {
            let mut call = root.init_call();
            call.set_question_id(id);
            call.set_interface_id(gate::Client::TYPE_ID);
            call.init_target().init_promised_answer().set_question_id(0);
        })
    });
    let bootstrap = message(|root| root.init_bootstrap().set_question_id(0));
    let flood: Vec<u8> = std::iter::once(bootstrap).chain(calls).flatten().collect();
    let meter = Arc::new(Meter::default());
    let terms = Rc::new(Terms::new(MeshLimits::default().control, meter.clone()));
    let (reader, writer) = (futures::io::Cursor::new(flood), futures::io::sink());
    let (network, _gate) = Network::new(reader, writer, Side::Server, Trust::Stranger, terms);
    let door: gate::Client = capnp_rpc::new_client(Busy);
    let system = capnp_rpc::RpcSystem::new(Box::new(network), Some(door.client));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let mut longest = Duration::ZERO;
    local.block_on(&runtime, async {
        let system = tokio::task::spawn_local(system);
        while !system.is_finished() {
            // As a socket does, this has its turn when the tasks have had theirs.
            let began = Instant::now();
            tokio::task::yield_now().await;
            longest = longest.max(began.elapsed());
        }
    });
    assert_eq!(meter.facts().calls, u64::from(CALLS));
    println!("others waited for {longest:?} at the most");
    assert!(longest < Duration::from_millis(20));
}
