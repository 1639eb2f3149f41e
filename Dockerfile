# A server of one application: copy yours over examples/helpdesk, or mount it at /app.
#
#   docker build -t desk .
#   docker run --init -p 25:8825 -v desk-run:/app/run desk
#
# TERM drains and ends; HUP takes up changed code; `docker exec desk monsal status` looks at it.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY src src
RUN python -m venv /opt/monsal \
    && /opt/monsal/bin/pip install --no-cache-dir -r requirements/run.txt \
    && /opt/monsal/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
COPY --from=build /opt/monsal /opt/monsal
ENV PATH=/opt/monsal/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    # Inside a container the world begins at its own border: what is published decides who can connect.
    MONSAL_INGRESS=smtp://0.0.0.0:8825 \
    MONSAL_DIR=/app
WORKDIR /app
COPY examples/helpdesk /app
RUN useradd --system --home-dir /app monsal && mkdir -p /app/run && chown -R monsal /app/run
USER monsal
VOLUME /app/run
EXPOSE 8825
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["monsal", "status"]
# A drain takes up to 30 s (the setting `drain`): run it with --stop-timeout 60.
CMD ["monsal", "run", "--log", "json"]
