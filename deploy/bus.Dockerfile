# A stand-in for nats:2-alpine where no image registry answers: the same program at the same path, busybox for the
# health check's wget. ./nachos up fills root/.
FROM scratch
COPY root/ /
ENV PATH=/usr/local/bin:/bin
LABEL nachos.stand-in="true"
EXPOSE 4222 8222
ENTRYPOINT ["nats-server"]
