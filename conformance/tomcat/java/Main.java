import java.io.File;

import org.apache.catalina.Lifecycle;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.core.StandardContext;
import org.apache.catalina.startup.ContextConfig;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.scan.StandardJarScanner;

import de.javakaffee.web.msm.MemcachedBackupSessionManager;

/**
 * One Tomcat with one application, whose Context is read from a context.xml as users write it.
 *
 * Arguments: the context.xml, the port (0: any free one), the jvmRoute or "-", a folder of its own.
 * Tells "listening on PORT" when requests are answered, and runs until it is killed.
 */
public final class Main {
    private Main() {
    }

    public static void main(String[] arguments) throws Exception {
        File contextFile = new File(arguments[0]);
        int port = Integer.parseInt(arguments[1]);
        String route = arguments[2];
        File folder = new File(arguments[3]).getAbsoluteFile();

        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(folder.getPath());
        Connector connector = new Connector();
        connector.setProperty("address", "127.0.0.1");
        connector.setPort(port);
        tomcat.setConnector(connector);
        if (!route.equals("-")) {
            tomcat.getEngine().setJvmRoute(route);
        }

        File application = new File(folder, "application");
        if (!application.mkdirs()) {
            throw new IllegalStateException("cannot make " + application);
        }
        StandardContext context = new StandardContext();
        context.setName("");
        context.setPath("");
        context.setDocBase(application.getPath());
        context.setConfigFile(contextFile.toURI().toURL());
        // Nothing is searched for annotations: that takes longer than all the rest.
        StandardJarScanner scanner = new StandardJarScanner();
        scanner.setJarScanFilter((type, name) -> false);
        context.setJarScanner(scanner);
        ContextConfig config = new ContextConfig();
        config.setDefaultWebXml(tomcat.noDefaultWebXmlPath());
        context.addLifecycleListener(config);

        Recorder recorder = new Recorder();
        tomcat.getEngine().getPipeline().addValve(recorder);
        context.addLifecycleListener(event -> {
            // The manager makes its statistics when it starts, before the first request.
            if (event.getType().equals(Lifecycle.AFTER_START_EVENT)) {
                recorder.listenTo((MemcachedBackupSessionManager) context.getManager());
            }
        });
        tomcat.getHost().addChild(context);
        Tomcat.addServlet(context, "sessions", new Sessions(route));
        context.addServletMappingDecoded("/", "sessions");
        tomcat.start();
        if (!context.getState().isAvailable()) {
            System.err.println("the application did not start: " + context.getState());
            System.exit(1);
        }
        System.out.println("listening on " + connector.getLocalPort());
        tomcat.getServer().await();
    }
}
