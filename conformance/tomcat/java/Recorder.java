import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.StringJoiner;
import java.util.concurrent.ConcurrentLinkedQueue;

import javax.servlet.ServletException;

import org.apache.catalina.connector.Request;
import org.apache.catalina.connector.Response;
import org.apache.catalina.valves.ValveBase;

import de.javakaffee.web.msm.MemcachedBackupSessionManager;
import de.javakaffee.web.msm.Statistics;
import de.javakaffee.web.msm.Statistics.MinMaxAvgProbe;
import de.javakaffee.web.msm.Statistics.StatsType;

/**
 * Tells of each request what the session manager counted for it.
 *
 * The manager answers a request also when it could not store the session, and only its statistics
 * know. They are counters of the whole Tomcat; here each counter also notes the thread that counts,
 * which is that of the request where sessions are stored synchronously. The answer's header
 * X-Stored says whether all that the request changed has reached the store, and "X-Locked: no" that
 * the manager went on without a lock which it could not get. /statistics tells the manager's
 * counters as its JMX bean does.
 */
final class Recorder extends ValveBase {
    private static final Set<String> CHANGING = Set.of("/count", "/put", "/rotate");
    private static final Set<StatsType> TIMED = EnumSet.of(
        StatsType.MEMCACHED_UPDATE, StatsType.NON_STICKY_AFTER_BACKUP,
        StatsType.DELETE_FROM_MEMCACHED, StatsType.ACQUIRE_LOCK, StatsType.ACQUIRE_LOCK_FAILURE,
        StatsType.LOAD_FROM_MEMCACHED);

    private final ThreadLocal<Set<StatsType>> counted =
        ThreadLocal.withInitial(() -> EnumSet.noneOf(StatsType.class));
    private final ConcurrentLinkedQueue<Event> events = new ConcurrentLinkedQueue<>();
    private volatile MemcachedBackupSessionManager manager;

    Recorder() {
        super(true);
    }

    /** One thing that was counted: when it ended, on the clock that all processes share. */
    private static final class Event {
        private final long nanoseconds = System.nanoTime();
        private final String what;
        private final long milliseconds;

        Event(String what, long milliseconds) {
            this.what = what;
            this.milliseconds = milliseconds;
        }
    }

    /** A counter of the manager that notes who counts. */
    private final class Probe extends MinMaxAvgProbe {
        private final StatsType type;

        Probe(StatsType type) {
            this.type = type;
        }

        @Override
        public void register(long milliseconds) {
            super.register(milliseconds);
            counted.get().add(type);
            if (TIMED.contains(type)) {
                events.add(new Event(type.name(), milliseconds));
            }
        }
    }

    @SuppressWarnings("unchecked")
    void listenTo(MemcachedBackupSessionManager listened) {
        try {
            Field field = Statistics.class.getDeclaredField("_probes");
            field.setAccessible(true);
            Statistics statistics = listened.getMemcachedSessionService().getStatistics();
            Map<StatsType, MinMaxAvgProbe> probes =
                (Map<StatsType, MinMaxAvgProbe>) field.get(statistics);
            for (StatsType type : StatsType.values()) {
                probes.put(type, new Probe(type));
            }
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException("another session manager than was thought", error);
        }
        manager = listened;
    }

    @Override
    public void invoke(Request request, Response response) throws IOException, ServletException {
        String path = request.getRequestURI();
        if (path.equals("/statistics")) {
            response.setContentType("application/json");
            response.getWriter().print(statistics());
            return;
        }
        Set<StatsType> noted = counted.get();
        noted.clear();
        // Stays, should the answer be on its way before the manager is done.
        response.setHeader("X-Stored", "no");
        getNext().invoke(request, response);
        boolean stored = stored(path, noted);
        response.setHeader("X-Stored", stored ? "yes" : "no");
        if (noted.contains(StatsType.ACQUIRE_LOCK_FAILURE)) {
            response.setHeader("X-Locked", "no");
        }
        if (!stored) {
            events.add(new Event("NOT_STORED", 0));
        }
    }

    private boolean stored(String path, Set<StatsType> noted) {
        boolean deleted = noted.contains(StatsType.DELETE_FROM_MEMCACHED);
        if (CHANGING.contains(path)) {
            return (deleted || !path.equals("/rotate")) && noted.contains(StatsType.BACKUP)
                && (manager.isSticky() || noted.contains(StatsType.NON_STICKY_AFTER_BACKUP));
        }
        return deleted || !path.equals("/logout");
    }

    private String statistics() {
        StringJoiner json = new StringJoiner(", ", "{", "}");
        try {
            for (Method method : manager.getClass().getMethods()) {
                if (method.getName().startsWith("getMsmStat")) {
                    String name = method.getName().substring("getMsmStat".length());
                    Object value = method.invoke(manager);
                    json.add(quoted(name) + ": " + (value instanceof String[]
                        ? Arrays.stream((String[]) value).map(Recorder::quoted).toList()
                        : value));
                }
            }
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
        List<String> rows = new ArrayList<>();
        for (Event event : events) {
            rows.add("[" + event.nanoseconds + ", " + quoted(event.what) + ", "
                + event.milliseconds + "]");
        }
        json.add("\"events\": " + rows);
        return json.toString();
    }

    private static String quoted(String text) {
        return '"' + text + '"';
    }
}
