// Streams, events, graphs.  A stream is a queue of work; by default each piece runs as it is pushed,
// with CUSIM_LAZY=1 only when the program waits for it, in a random order of streams.
#include "emulator.h"

#include <time.h>

#include <algorithm>
#include <deque>

using cusim::u64;
using cusim::work;

struct CUevent_st {
	u64 recorded, done;     // how often; a wait is for one of these
	CUstream_st *stream;    // of the last record
	double milliseconds;
};

struct CUgraph_st {
	std::vector<work> steps;
};

struct CUgraphExec_st {
	std::vector<work> steps;
};

namespace cusim {

struct operation {
	work run;
	CUevent_st *wait;       // or NULL
	u64 version;            // of the event
};

} // namespace cusim

struct CUstream_st {
	std::deque<cusim::operation> queue;
	CUgraph_st *capture;    // being recorded, or NULL
	bool blocking;          // ordered against the null stream
};

namespace cusim {

static CUstream_st null_stream = { {}, nullptr, true };
static std::vector<CUstream_st *> streams = { &null_stream };

static CUstream_st *stream_of(cudaStream_t s)
{
	return s && s != cudaStreamLegacy && s != cudaStreamPerThread ? s : &null_stream;
}

static double now()
{
	timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void run_oldest(CUstream_st *s);

static void finish_event(const CUevent_st *e, u64 version)
{
	while (e->done < version) {
		if (e->stream->queue.empty())
			die("an event that never completes");
		run_oldest(e->stream);
	}
}

static void run_oldest(CUstream_st *s)
{
	operation next = std::move(s->queue.front());

	s->queue.pop_front();
	if (next.wait)
		finish_event(next.wait, next.version);
	if (next.run) {
		device_access open;
		next.run();
	}
}

static void drain(CUstream_st *s)
{
	while (!s->queue.empty()) {
		CUstream_st *other = streams[random_below((unsigned)streams.size())];

		if (!set().seed || !set().lazy || other->queue.empty())
			other = s;
		run_oldest(other);
	}
}

void drain_all()
{
	auto busy = [](const CUstream_st *s) { return !s->queue.empty(); };

	for (;;) {
		auto next = std::find_if(streams.begin(), streams.end(), busy);
		if (next == streams.end())
			return;
		drain(*next);
	}
}

// The null stream and blocking streams wait for one another.
static void order_against_null(CUstream_st *s)
{
	if (s != &null_stream) {
		if (s->blocking)
			drain(&null_stream);
		return;
	}
	for (CUstream_st *other : streams)
		if (other != s && other->blocking)
			drain(other);
}

static void push_operation(CUstream_st *s, operation next)
{
	if (s->capture) {
		if (next.run)
			s->capture->steps.push_back(std::move(next.run));
		return;
	}
	order_against_null(s);
	s->queue.push_back(std::move(next));
	if (!set().lazy)
		drain(s);
}

void push(cudaStream_t stream, work what)
{
	push_operation(stream_of(stream), { std::move(what), nullptr, 0 });
}

} // namespace cusim

using namespace cusim;

RUNTIME cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
	*stream = nullptr;
	MAY_FAIL(cudaErrorMemoryAllocation);
	*stream = new CUstream_st{ {}, nullptr, !(flags & cudaStreamNonBlocking) };
	streams.push_back(*stream);
	return cudaSuccess;
}

RUNTIME cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, 0); }

RUNTIME cudaStreamDestroy(cudaStream_t stream)
{
	drain(stream);
	streams.erase(std::find(streams.begin(), streams.end(), stream));
	delete stream;
	MAY_FAIL(cudaErrorIllegalAddress);
	return cudaSuccess;
}

RUNTIME cudaStreamSynchronize(cudaStream_t stream)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	if (stream_of(stream)->capture)
		return error(cudaErrorStreamCaptureUnsupported);
	drain(stream_of(stream));
	return cudaSuccess;
}

RUNTIME cudaDeviceSynchronize(void)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	drain_all();
	return cudaSuccess;
}

RUNTIME cudaStreamQuery(cudaStream_t stream)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	return stream_of(stream)->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

RUNTIME cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
	*status = stream_of(stream)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
	return cudaSuccess;
}

RUNTIME cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	push_operation(stream_of(stream), { nullptr, event, event->recorded });
	return cudaSuccess;
}

RUNTIME cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	push(stream, [=] { function(argument); });
	return cudaSuccess;
}

RUNTIME cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
	*event = nullptr;
	MAY_FAIL(cudaErrorMemoryAllocation);
	*event = new CUevent_st();
	return cudaSuccess;
}

RUNTIME cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }

RUNTIME cudaEventDestroy(cudaEvent_t event)
{
	drain_all();
	delete event;
	MAY_FAIL(cudaErrorIllegalAddress);
	return cudaSuccess;
}

RUNTIME cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	const u64 version = ++event->recorded;

	event->stream = stream_of(stream);
	push(stream, [=] {
		event->done = version;
		event->milliseconds = now();
	});
	return cudaSuccess;
}

RUNTIME cudaEventSynchronize(cudaEvent_t event)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	finish_event(event, event->recorded);
	return cudaSuccess;
}

RUNTIME cudaEventQuery(cudaEvent_t event)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	return event->done == event->recorded ? cudaSuccess : cudaErrorNotReady;
}

RUNTIME cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	finish_event(to, to->recorded);
	*milliseconds = (float)(to->milliseconds - from->milliseconds);
	return cudaSuccess;
}

RUNTIME cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
	MAY_FAIL(cudaErrorMemoryAllocation);
	if (!stream || stream->capture)
		return error(cudaErrorStreamCaptureUnsupported);
	stream->capture = new CUgraph_st;
	return cudaSuccess;
}

RUNTIME cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	*graph = stream->capture;
	stream->capture = nullptr;
	MAY_FAIL(cudaErrorMemoryAllocation);
	return cudaSuccess;
}

RUNTIME cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long)
{
	*executable = nullptr;
	MAY_FAIL(cudaErrorMemoryAllocation);
	*executable = new CUgraphExec_st{ graph->steps };
	return cudaSuccess;
}

RUNTIME cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
	MAY_FAIL(cudaErrorLaunchFailure);
	push(stream, [steps = executable->steps] {
		for (const work &step : steps)
			step();
	});
	return cudaSuccess;
}

RUNTIME cudaGraphDestroy(cudaGraph_t graph)
{
	delete graph;
	return cudaSuccess;
}

RUNTIME cudaGraphExecDestroy(cudaGraphExec_t executable)
{
	delete executable;
	return cudaSuccess;
}
