// Socket.IO with its defaults: clients join rooms, POST /publish/ROOM sends its body to one.
const http = require('http');
const { Server } = require('socket.io');

const server = http.createServer((request, response) => {
  if (!request.url.startsWith('/publish/')) return;
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    io.to(request.url.slice('/publish/'.length)).emit('msg', Buffer.concat(parts).toString());
    response.writeHead(200, { 'content-length': 0 }).end();
  });
});
const io = new Server(server);
io.on('connection', (socket) => {
  socket.on('join', (room, joined) => {
    socket.join(room);
    joined();
  });
});
server.keepAliveTimeout = 600_000;
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 });
