import java.io.IOException;

import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import javax.servlet.http.HttpSession;

/** The application: the requests that conformance/sessions/users.py describes. */
final class Sessions extends HttpServlet {
    private static final long serialVersionUID = 1L;
    /** Requests of one session meet in one of these: in one Tomcat they share the session's object. */
    private static final Object[] MUTEXES = new Object[256];

    static {
        for (int i = 0; i < MUTEXES.length; i++) {
            MUTEXES[i] = new Object();
        }
    }

    private final String worker;

    Sessions(String worker) {
        this.worker = worker;
    }

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        String path = request.getServletPath();
        boolean makes = path.equals("/count") || path.equals("/put");
        // The manager locks the session here, where it locks.
        HttpSession session = request.getSession(false);
        boolean fresh = session == null;
        if (fresh && makes) {
            session = request.getSession(true);
        }
        int n = 0;
        String id = "";
        if (session != null) {
            synchronized (mutex(session)) {
                n = act(path, request, session);
            }
            id = path.equals("/logout") ? "" : session.getId();
        }
        // Not closed: the manager stores the session while the answer waits in its buffer.
        response.setContentType("application/json");
        response.getWriter().printf(
            "{\"id\": \"%s\", \"fresh\": %b, \"n\": %d, \"worker\": \"%s\"}", id, fresh, n, worker);
    }

    private static Object mutex(HttpSession session) {
        return MUTEXES[Math.floorMod(session.getId().hashCode(), MUTEXES.length)];
    }

    private static int act(String path, HttpServletRequest request, HttpSession session) {
        int n = counted(session);
        switch (path) {
            case "/count":
                if (request.getParameter("seconds") != null) {
                    session.setMaxInactiveInterval(number(request, "seconds"));
                }
                pause(number(request, "wait_ms"));
                session.setAttribute("n", n + 1);
                session.setAttribute("basket", new Basket(n + 1));
                return n + 1;
            case "/read":
                return n;
            case "/put":
                session.setAttribute("data", "x".repeat(number(request, "bytes")));
                return n;
            case "/rotate":
                request.changeSessionId();
                // As a login does. With nothing changed but the id, the manager (of which Tomcat
                // no longer calls the method) would store it at the next change only.
                session.setAttribute("login", session.getId());
                return n;
            case "/logout":
                session.invalidate();
                return 0;
            default:
                throw new IllegalArgumentException("no such request: " + path);
        }
    }

    private static int counted(HttpSession session) {
        Integer n = (Integer) session.getAttribute("n");
        if (n == null) {
            return 0;
        }
        if (!new Basket(n).equals(session.getAttribute("basket"))) {
            throw new IllegalStateException("the session was damaged: " + n);
        }
        return n;
    }

    private static int number(HttpServletRequest request, String name) {
        String text = request.getParameter(name);
        return text == null ? 0 : Integer.parseInt(text);
    }

    private static void pause(int milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException interruption) {
            throw new IllegalStateException(interruption);
        }
    }
}
