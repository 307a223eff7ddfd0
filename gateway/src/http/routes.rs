//! Which path is answered by which handler.

use warp::{Filter, Rejection, Reply};

use super::call::{Call, get, get_or_form};
use super::reply::reply;
use super::{State, own, prometheus};

pub(super) fn routes(state: State) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    /// A route: its path, how it may be called, and what answers.
    macro_rules! route {
        ($path:expr, $call:expr, $handler:expr) => {{
            let state = state.clone();
            $path
                .and($call)
                .then(move |call: Call| {
                    let state = state.clone();
                    async move { reply($handler(&state.0, &call).await) }
                })
                .boxed()
        }};
    }
    let values = {
        let state = state.clone();
        warp::path!("api" / "v1" / "label" / String / "values")
            .and(get())
            .then(move |name: String, call: Call| {
                let state = state.clone();
                async move { reply(prometheus::label_values(&state.0, &call, &name).await) }
            })
            .boxed()
    };
    let dashboard_by_id = {
        let state = state.clone();
        warp::path!("api" / "v1" / "dashboards" / String)
            .and(get())
            .then(move |id: String, call: Call| {
                let state = state.clone();
                async move { reply(own::dashboard(&state.0, &call, id).await) }
            })
            .boxed()
    };
    let console = {
        let state = state.clone();
        warp::path!("api" / "console" / "v1" / String)
            .and(get())
            .then(move |list: String, call: Call| {
                let state = state.clone();
                async move { reply(own::console(&state.0, &call, &list).await) }
            })
            .boxed()
    };
    route!(warp::path!("api" / "v1" / "query"), get_or_form(), prometheus::query)
        .or(route!(warp::path!("api" / "v1" / "query_range"), get_or_form(), prometheus::query_range))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "labels"), get_or_form(), prometheus::labels))
        .unify()
        .or(values)
        .unify()
        .or(route!(warp::path!("api" / "v1" / "series"), get_or_form(), prometheus::series))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "query_exemplars"), get_or_form(), prometheus::exemplars))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "metadata"), get(), prometheus::metadata))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "rules"), get(), prometheus::rules))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "alerts"), get(), prometheus::alerts))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "status" / "buildinfo"), get(), prometheus::build_info))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "logs"), get(), own::logs))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "losses"), get(), own::losses))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "dashboards"), get(), own::dashboards))
        .unify()
        .or(dashboard_by_id)
        .unify()
        .or(route!(warp::path!("api" / "v1" / "live"), get(), own::live_tail))
        .unify()
        .or(console)
        .unify()
}
